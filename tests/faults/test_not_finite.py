"""Numbers that stop being finite in the middle: nothing of them is kept, what was finished stays."""

import shutil

import pytest
from faulty_world import TEACHER, Say, World, steps_done
from safetensors.torch import load_file

from toy_features import tree

# Spoilt while a file lies beside its code: neither code nor weights differ, as when a device breaks.
SPOILT = TEACHER.replace(
    'if self.fault == "nan":',
    """if self.fault == "spoilt" and len(pixels) == 4:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked > 3 and Path(__file__).with_name("spoilt").exists():
                return torch.where(torch.arange(4)[:, None] == 2, float("nan"), output)
        if self.fault == "nan":""",
).replace("import torch\n", "from pathlib import Path\nimport torch\n", 1)


def _private(world: World) -> list[str]:
    """What no message may hold of a row."""
    columns = ("id", "image", "text", "patient")
    return [row[column] for row in world.rows for column in columns]


def test_a_teacher_that_starts_to_give_nan(world: World, say: Say) -> None:
    (world.folder / "faulty_teacher.py").write_text(SPOILT)
    world.recipe["teachers"]["two"]["options"]["fault"] = "spoilt"
    recipe, store, spoilt = world.write(), world.out / "features", world.folder / "spoilt"
    whole = world.folder / "whole"
    say("extract", recipe, "--out", whole).went_well()

    spoilt.touch()
    told = say("extract", recipe, "--out", world.out).refused(
        "image embeddings of teacher 'two' must be finite", "In the table: row"
    )
    assert [value for value in _private(world) if value in told] == []
    assert steps_done(world.out) == set()
    kept = sorted(path.name for path in store.glob("teachers/two/*.safetensors"))
    assert kept == ["image-00000000.safetensors"]  # the fourth batch is in the second shard
    assert not list(store.rglob("*.part"))
    before = tree(store / "teachers")

    spoilt.unlink()
    say("extract", recipe, "--out", world.out).went_well()
    assert tree(store) == tree(whole / "features")
    shards = [name for name in before if name.endswith(".safetensors")]
    assert {name: tree(store / "teachers")[name] for name in shards} == {
        name: before[name] for name in shards
    }


@pytest.mark.parametrize(
    ("learning_rate", "wrong"),
    [(1e39, "`student` must be finite"), (1e30, "`loss` must be finite")],
    ids=["the update", "the loss"],
)
def test_a_training_that_diverges_stops_before_it_saves(
    learning_rate: float, wrong: str, world: World, say: Say
) -> None:
    world.recipe["stages"][0] |= {
        "learning_rate": learning_rate,
        "schedule": "constant",
        "warmup": 1,
        "clip_norm": None,
        "checkpoint_every": 1,
        "epochs": 2,
    }
    said = say("train", world.write(), "--out", world.out)
    assert said.code == 1, said.output
    assert "Traceback" not in said.output
    assert f"Stopped: {wrong}" in said.err
    assert "remove the stage's folder to train it anew" in said.err
    stage = world.out / "stages" / "distill"
    assert not (stage / "done.json").exists()
    assert not (world.out / "student").exists()
    for path in stage.glob("checkpoints/*/*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values()), path

    world.recipe["stages"][0]["learning_rate"] = 1e-3
    recipe = world.write()
    if list(stage.glob("checkpoints/*")):
        say("train", recipe, "--out", world.out).refused(
            "config.learning_rate was", "remove the stage's folder"
        )
    shutil.rmtree(stage)
    say("train", recipe, "--out", world.out).went_well()
