"""Checkpoints: written aside, hashed, renamed; the newest whole one of the same run is taken up again."""

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from meddistill.errors import CheckpointError, first_line
from meddistill.file_kinds import unreadable
from meddistill.files import folder_aside, sealed, sha256_of, sync_folder, unsealed, write_whole, writing
from meddistill.training.files import save_state, save_tensors
from meddistill.training.validation import Best
from meddistill.tree_difference import tree_differences

MANIFEST = "manifest.json"
STUDENT = "student.safetensors"
_METHOD = "method.safetensors"
_OPTIMIZER = "optimiser.pt"
_BEST = "best.safetensors"
_FILES = (STUDENT, _METHOD, _OPTIMIZER)
_PREFIX = "step-"
_UNFINISHED = f".{_PREFIX}*.partial"
_KEPT = 2

Identity = Mapping[str, Any]


class _HasState(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Progressed:
    """How far the training was: updates done, seconds spent on them, the best epoch of a stage that selects
    one.
    """

    step: int = 0
    seconds: float = 0.0
    best: Best | None = None


@final
class Checkpoints:
    """The checkpoints of one stage, the newest two.

    A checkpoint is a folder `step-<n>` with student and method (safetensors), optimiser, the weights of the
    best epoch where the stage selects one, and a manifest with the sha256 of each, the identity of the run
    and the terms that the weights inherit. It is complete before it has its name. Teachers are never in it.
    There is no state of random numbers: they depend on seed and step alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: Identity,
        student: _HasState,
        method: _HasState,
        optimizer: _HasState,
        licences: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._identity: dict[str, Any] = json.loads(json.dumps(identity))
        self._student = student
        self._method = method
        self._optimizer = optimizer
        self._licences = dict(licences or {})

    def save(self, progressed: Progressed) -> Path:
        """Write a checkpoint; only the main process calls this."""
        name = f"{_PREFIX}{progressed.step:09d}"
        with writing(self._folder, CheckpointError):
            for leftover in self._folder.glob(_UNFINISHED):
                shutil.rmtree(leftover)
            with folder_aside(self._folder / name) as partial:
                self._write(partial, progressed)
            sync_folder(self._folder)
            # By name alone a damaged one of a later step would push out what was just written.
            others = [each for each in self._complete() if each.name != name]
            for old in others[_KEPT - 1 :]:
                shutil.rmtree(old)
        return self._folder / name

    def _write(self, folder: Path, progressed: Progressed) -> None:
        save_tensors(self._student.state_dict(), folder / STUDENT)
        save_tensors(self._method.state_dict(), folder / _METHOD)
        save_state(self._optimizer.state_dict(), folder / _OPTIMIZER)
        files, best = list(_FILES), {}
        if progressed.best is not None:
            save_tensors(progressed.best.weights, folder / _BEST)
            files.append(_BEST)
            best = {"best": {"value": progressed.best.value, "epoch": progressed.best.epoch}}
        manifest = {
            "step": progressed.step,
            "seconds": progressed.seconds,
            **best,
            "identity": self._identity,
            "licences": self._licences,
            "sha256": {name: sha256_of(folder / name) for name in files},
        }
        write_whole(folder / MANIFEST, json.dumps(sealed(manifest), indent=1).encode(), error=CheckpointError)

    def newest(self, say: Callable[[str], None]) -> Path | None:
        """The newest checkpoint that is as it was written; others are told of and passed over.

        Raises CheckpointError where it belongs to a run with other settings or data, naming the difference.
        """
        for folder in self._complete():
            damage = _damage(folder)
            if damage is None:
                self._refuse_other_run(folder)
                return folder
            say(f"Checkpoint {folder.name} is passed over ({damage}); going back to the one before it.")
        return None

    def load(self, folder: Path, *, device: torch.device) -> Progressed:
        """Put the checkpoint's state into student, method and optimiser."""
        try:
            self._student.load_state_dict(load_file(folder / STUDENT, device=str(device)))
            self._method.load_state_dict(load_file(folder / _METHOD, device=str(device)))
            # weights_only: a checkpoint is data, and loading it runs no code.
            state = torch.load(folder / _OPTIMIZER, map_location=device, weights_only=True)
            self._optimizer.load_state_dict(state)
            manifest = _manifest(folder)
            kept = manifest.get("best")
            best = None if kept is None else Best(**kept, weights=load_file(folder / _BEST))
        except (SafetensorError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
            msg = (
                f"`{folder}` must hold the state of this student and method; got {type(error).__name__}: "
                f"{first_line(error)}. Remove the stage's folder to train it anew."
            )
            raise CheckpointError(msg) from error
        return Progressed(step=manifest["step"], seconds=manifest["seconds"], best=best)

    def remove_all(self) -> None:
        """Clear the folder once the stage is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _complete(self) -> list[Path]:
        """Checkpoints by their names, newest first."""
        return sorted(self._folder.glob(f"{_PREFIX}*"), reverse=True)

    def _refuse_other_run(self, folder: Path) -> None:
        refuse_difference(_manifest(folder)["identity"], self._identity, place=folder)


def refuse_difference(theirs: Identity, ours: Identity, *, place: Path) -> None:
    """Raise CheckpointError that names everything in which two identities differ."""
    ours = json.loads(json.dumps(ours))
    differences = [
        each.describe(" was {old}, is {new}", added=" is new", removed=" is gone")
        for each in tree_differences(theirs, ours)
    ]
    if differences:
        msg = (
            f"`{place}` must belong to the same settings and data; got other ones: {'; '.join(differences)}. "
            "Put them back, or remove the stage's folder to train it anew."
        )
        raise CheckpointError(msg)


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files; None if nothing is."""
    try:
        manifest = _manifest(folder)
    except OSError as refusal:
        return f"its manifest cannot be read: {unreadable(refusal).what}"
    except ValueError:
        return "its manifest is not as it was written"
    if folder.name != f"{_PREFIX}{manifest['step']:09d}":
        return "it is of another step than its name"
    for name, expected in manifest["sha256"].items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        try:
            differs = sha256_of(path) != expected
        except OSError as refusal:
            return f"{name} cannot be read: {unreadable(refusal).what}"
        if differs:
            return f"{name} has other bytes than were written"
    return None


def _manifest(folder: Path) -> dict[str, Any]:
    """Raises ValueError where it is not as it was written."""
    manifest = unsealed(json.loads((folder / MANIFEST).read_bytes()))
    if manifest is None:
        msg = f"`{folder / MANIFEST}` must be as it was written; its seal differs."
        raise ValueError(msg)
    return manifest
