"""Checkpoints: whole or absent, the newest sound one, of this run only, without code and without teachers."""

import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from file_modes import of_others
from meddistill.errors import CheckpointError
from meddistill.files import sealed, sha256_of, unsealed
from meddistill.training.checkpoint import Checkpoints, Progressed
from meddistill.training.optimizer import Optimizer
from toy_training import DEVICE, ToyStudent, gradients_of, toy_batch, toy_config, toy_method, toy_step

REPEATS, SEED = (int(os.environ[f"MEDDISTILL_FAULT_{name}"]) for name in ("REPEATS", "SEED"))
FILES = ("student.safetensors", "method.safetensors", "optimiser.pt", "manifest.json")


class Run:
    def __init__(self, folder: Path, *, seed: int = 0, **identity) -> None:
        self.student, self.method = ToyStudent(seed=seed), toy_method()
        self.step = toy_step(self.student, self.method)
        self.optimizer = Optimizer(student=self.student, method=self.method, config=toy_config())
        self.checkpoints = Checkpoints(
            folder,
            identity={"config": {"learning_rate": 0.1, "betas": (0.9, 0.98)}, "data": "d", **identity},
            student=self.student,
            method=self.method,
            optimizer=self.optimizer,
        )
        self.said: list[str] = []

    def update(self, number: int) -> None:
        self.optimizer.clear()
        self.step(toy_batch(range(8)), step=number)
        norm = self.optimizer.gradient_norm()
        self.optimizer.update(rate=0.01, gradient_norm=norm, finite=norm.isfinite())

    def state(self) -> list[torch.Tensor]:
        moments = [value for each in self.optimizer.state_dict()["state"].values() for value in each.values()]
        tensors = [*self.student.state_dict().values(), *self.method.state_dict().values(), *moments]
        return [tensor.detach().clone() for tensor in tensors]

    def newest(self) -> Path | None:
        return self.checkpoints.newest(self.said.append)


@pytest.fixture
def saved(tmp_path) -> tuple[Path, list[torch.Tensor], list[torch.Tensor]]:
    """A folder with checkpoints of steps 1 and 2, and both states."""
    run = Run(tmp_path)
    states = []
    for number in (1, 2):
        run.update(number)
        run.checkpoints.save(Progressed(step=number, seconds=number * 1.5))
        states.append(run.state())
    return tmp_path, *states


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_a_checkpoint_gives_everything_back(saved) -> None:
    folder, _, second = saved
    fresh = Run(folder, seed=3)
    progressed = fresh.checkpoints.load(fresh.newest(), device=DEVICE)
    assert progressed == Progressed(step=2, seconds=3.0)
    assert same(fresh.state(), second)
    assert fresh.said == []


def test_the_newest_two_are_kept(saved) -> None:
    folder, *_ = saved
    run = Run(folder)
    run.update(3)
    run.checkpoints.save(Progressed(step=30))
    assert sorted(each.name for each in folder.iterdir()) == ["step-000000002", "step-000000030"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_damage_is_found_and_the_one_before_is_taken(saved, name, damage) -> None:
    folder, first, _ = saved
    path = folder / "step-000000002" / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "flip":
        content[len(content) // 2 if name != "manifest.json" else content.index(b"2")] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "cut" else 0])
    run = Run(folder, seed=3)
    chosen = run.newest()
    assert chosen.name == "step-000000001"
    assert "step-000000002 is passed over" in run.said[0]
    run.checkpoints.load(chosen, device=DEVICE)
    assert same(run.state(), first)


@pytest.mark.parametrize("name", FILES)
def test_damage_at_any_place_is_found(saved, name) -> None:
    """Places from the seed of the session; the one before is taken, whatever the damaged one says."""
    folder, first, _ = saved
    path = folder / "step-000000002" / name
    content, numbers = path.read_bytes(), random.Random(f"{SEED} {name}")
    for _ in range(10 * REPEATS):
        place, bit = numbers.randrange(len(content)), numbers.randrange(8)
        flipped = content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        for damaged in (flipped, content[:place]):
            path.write_bytes(damaged)
            run = Run(folder, seed=3)
            chosen = run.newest()
            told = f"seed {SEED}, {name}, byte {place}, bit {bit}"
            if chosen.name != "step-000000001":  # white space, which says nothing
                assert name == "manifest.json", told
                assert json.loads(damaged) == json.loads(content), told
    run.checkpoints.load(folder / "step-000000001", device=DEVICE)
    assert same(run.state(), first)


def test_with_all_damaged_there_is_none(saved) -> None:
    folder, *_ = saved
    for path in folder.rglob("optimiser.pt"):
        path.unlink()
    run = Run(folder)
    assert run.newest() is None
    assert len(run.said) == 2


def test_what_an_interrupted_save_left_is_no_checkpoint(saved) -> None:
    folder, *_ = saved
    (folder / ".step-000000009.partial").mkdir()
    (folder / ".step-000000009.partial" / "student.safetensors").write_bytes(b"half")
    run = Run(folder)
    assert run.newest().name == "step-000000002"
    run.checkpoints.save(Progressed(step=10))
    assert not list(folder.glob(".*.partial"))


def test_another_run_is_refused_and_the_difference_named(saved) -> None:
    folder, *_ = saved
    other = Run(folder, config={"learning_rate": 0.2, "betas": (0.9, 0.98)}, data="e")
    with pytest.raises(CheckpointError) as error:
        other.newest()
    message = str(error.value)
    assert "config.learning_rate was 0.1, is 0.2" in message
    assert "data was d, is e" in message
    assert "betas" not in message


class _Code:
    def __reduce__(self) -> tuple:
        return (print, ("code from a checkpoint runs",))


def test_code_in_a_checkpoint_is_not_run(saved, capsys) -> None:
    """Even where its hash is the one in the manifest."""
    folder, *_ = saved
    path = folder / "step-000000002" / "optimiser.pt"
    path.write_bytes(pickle.dumps(_Code(), protocol=2))
    _rehash(path)
    run = Run(folder)
    with pytest.raises(CheckpointError, match="state of this student"):
        run.checkpoints.load(run.newest(), device=DEVICE)
    assert "code" not in capsys.readouterr().out


def test_a_student_of_another_shape_is_refused(saved) -> None:
    folder, *_ = saved
    path = folder / "step-000000002" / "student.safetensors"
    other = folder / "step-000000002" / "method.safetensors"
    path.write_bytes(other.read_bytes())
    _rehash(path)
    run = Run(folder)
    with pytest.raises(CheckpointError, match="state of this student and method"):
        run.checkpoints.load(run.newest(), device=DEVICE)


def _rehash(path: Path) -> None:
    manifest = path.with_name("manifest.json")
    content = unsealed(json.loads(manifest.read_text()))
    content["sha256"][path.name] = sha256_of(path)
    manifest.write_text(json.dumps(sealed(content)))


def test_tied_weights_can_be_saved(tmp_path) -> None:
    run = Run(tmp_path)
    run.student.extra = run.student.words
    run.checkpoints.save(Progressed(step=1))
    assert run.newest() is not None


def test_a_full_disk_is_told_in_words(tmp_path) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    with pytest.raises(CheckpointError, match="must be writable"):
        Run(place).checkpoints.save(Progressed(step=1))


def _tensors(content: object) -> list[torch.Tensor]:
    """All that stand anywhere in dictionaries, lists and tuples."""
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list | tuple):
        return [tensor for each in content for tensor in _tensors(each)]
    return [content] if isinstance(content, torch.Tensor) else []


def test_gradients_are_not_part_of_it(tmp_path) -> None:
    """What is written is weights, buffers, moments and counts, and none of it is a gradient."""
    run = Run(tmp_path)
    run.update(1)
    gradients = [each for each in gradients_of(run.student, run.method).values() if each.abs().sum() > 0]
    assert gradients
    folder = run.checkpoints.save(Progressed(step=1, seconds=1.0))
    student, method = (load_file(folder / name) for name in FILES[:2])
    assert student.keys() == run.student.state_dict().keys()
    assert method.keys() == run.method.state_dict().keys()
    written: list[torch.Tensor] = []
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            written += load_file(path).values()
        elif path.suffix == ".pt":
            written += _tensors(torch.load(path, weights_only=True, map_location="cpu"))
    assert len(written) > len(gradients) + len(student) + len(method)
    for gradient in gradients:
        assert not any(each.shape == gradient.shape and each.equal(gradient) for each in written)


def test_its_files_follow_the_umask(saved) -> None:
    assert of_others(saved[0]) == {}
