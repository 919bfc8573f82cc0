"""Cut and flipped files of a run folder: told or made again, never a wrong number, never a traceback."""

import random
import shutil
from pathlib import Path

import pytest
from fault_counts import REPEATS, SEED
from faulty_world import Say, World

from recipe_data import hashes

# What has to be right whenever a command says that it went well.
JUDGED = ("evaluation/results.json", "student/", "stages/distill/student.safetensors")
# Each file, a command that reads it, and what the user may be asked to remove.
FILES = {
    "steps.json": ("evaluate", "steps.json"),
    "recipe.yaml": ("evaluate", None),
    "evaluation/results.json": ("evaluate", None),
    "student/meddistill.json": ("evaluate", None),
    "student/open_clip_model.safetensors": ("evaluate", None),
    "stages/distill/done.json": ("train", "stages/distill"),
    "stages/distill/student.safetensors": ("train", "stages/distill"),
}


def _judged(run: Path) -> dict[str, str]:
    return {name: found for name, found in hashes(run).items() if name.startswith(JUDGED)}


def _damages(content: bytes, numbers: random.Random) -> list[tuple[str, bytes]]:
    """Cuts and flipped bits, at places from the seed."""
    found = [("empty", b""), ("without its last byte", content[:-1])]
    for _ in range(REPEATS // 4):
        place = numbers.randrange(len(content))
        found.append((f"cut at {place}", content[:place]))
    for _ in range(REPEATS):
        place, bit = numbers.randrange(len(content)), numbers.randrange(8)
        flipped = content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        found.append((f"bit {bit} of byte {place} flipped", flipped))
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_of_a_run(name: str, finished: World, tmp_path: Path, say: Say) -> None:
    """Where the user has to remove something, the message names it, and the same command then goes on."""
    verb, remedy = FILES[name]
    recipe, run = finished.folder / "recipe.yaml", tmp_path / "run"
    shutil.copytree(finished.out, run)
    expected, content = _judged(run), (run / name).read_bytes()
    numbers = random.Random(f"{SEED} {name}")
    for what, damaged in _damages(content, numbers):
        told = f"seed {SEED}, {name} {what}: "
        (run / name).write_bytes(damaged)
        said = say(verb, recipe, "--out", run, "--quiet")
        told += said.output
        assert said.code in {0, 2}, told
        assert "Traceback" not in said.output, told
        if said.code == 2:
            assert remedy is not None, told
            assert f"{run / remedy}" in said.err, told
            assert "Delete it" in said.err or "Remove the stage's folder" in said.err, told
            _remove(run / remedy)
            say(verb, recipe, "--out", run, "--quiet").went_well()
        assert _judged(run) == expected, told


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
