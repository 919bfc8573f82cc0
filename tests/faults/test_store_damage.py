"""A damaged feature store in a run: found when training touches it, mended by the commands that are named."""

import re
from pathlib import Path

from faulty_world import Say, World

from toy_features import OF_ALL_ROWS, tree

SHARD = "teachers/one/image-00000008.safetensors"


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1  # one bit of one feature
    path.write_bytes(content)


def test_a_flipped_bit_stops_the_training_and_one_shard_is_made_anew(world: World, say: Say) -> None:
    recipe, store = world.write(), world.out / "features"
    say("extract", recipe, "--out", world.out).went_well()
    whole = tree(store)
    _flip(store / SHARD)

    told = say("train", recipe, "--out", world.out).refused(SHARD, "its hash differs")
    assert not (world.out / "student").exists()
    remedy = re.search(r"`meddistill (features verify .* --repair)`.*then extract again", told)
    assert remedy
    found = say("features", "verify", store)
    assert found.refused("--repair")
    assert SHARD in found.out
    say(*remedy[1].split()).went_well()

    kept = {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}
    say("extract", recipe, "--out", world.out).went_well()
    assert tree(store) == whole
    remade = {path.relative_to(store).as_posix() for path in kept if path.stat().st_mtime_ns != kept[path]}
    assert SHARD in remade
    # Statistics are of all rows; they come out the same.
    assert remade <= {SHARD, *(f"teachers/one/{name}" for name in OF_ALL_ROWS)}
    say("train", recipe, "--out", world.out).went_well()


def test_lost_statistics_are_made_anew(world: World, say: Say) -> None:
    recipe, store = world.write(), world.out / "features"
    say("extract", recipe, "--out", world.out).went_well()
    whole = tree(store)
    _flip(store / "teachers" / "two" / "statistics.safetensors")
    say("features", "verify", store, "--repair").went_well()
    say("extract", recipe, "--out", world.out).went_well()
    assert tree(store) == whole


def test_a_truncated_shard_is_found_before_training(world: World, say: Say) -> None:
    recipe, store = world.write(), world.out / "features"
    say("extract", recipe, "--out", world.out).went_well()
    path = store / SHARD
    path.write_bytes(path.read_bytes()[:-1])
    say("train", recipe, "--out", world.out).refused(
        SHARD.rpartition("/")[2], "bytes, not", f"verify {store} --repair"
    )
    assert not (world.out / "stages").exists()
