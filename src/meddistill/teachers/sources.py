"""Where a teacher's files are: local paths first, then the hub's cache, then the hub."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meddistill.errors import MissingWeights, TeacherError

_LOCAL: Final = "local-dir:"
_HUB: Final = "hf-hub:"
_FILES: Final = ("*.json", "*.txt", "*.model")
_SAFE: Final = ("*.safetensors",)
_PICKLES: Final = ("*.bin", "*.pt", "*.pth")
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder with a model's files; `name` is safe to publish, `revision` is a hub commit where known."""

    folder: Path
    name: str
    revision: str | None = None


def find_folder(model: str, *, base: Path, revision: str | None) -> Source:
    """The folder that `model` names: `local-dir:PATH`, `hf-hub:ID`, or either without its prefix.

    Relative paths start at `base`. A bare name is a path where one exists and a hub id otherwise.

    Raises
    ------
    MissingWeights
        If a path does not exist, or the hub's model is not cached and cannot be fetched.
    """
    if model.startswith(_LOCAL):
        return _local(base / Path(model.removeprefix(_LOCAL)).expanduser(), model)
    if model.startswith(_HUB):
        return _hub(model.removeprefix(_HUB), revision)
    path = base / Path(model).expanduser()
    if path.is_dir():
        return _local(path, model)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _hub(model, revision)
    return _local(path, model)


def find_file(name: str, *, base: Path, what: str) -> Path:
    """The file `name`, relative to `base`; raises TeacherError where there is none."""
    path = base / Path(name).expanduser()
    if not path.is_file():
        msg = f"`{what}` must be an existing file; got {name!r}. Relative paths start at the recipe's folder."
        raise TeacherError(msg)
    return path.resolve()


def _local(path: Path, model: str) -> Source:
    if not path.is_dir():
        msg = (
            f"`model` must be an existing folder or a hub id; got {model!r}. Relative paths start at the "
            "recipe's folder."
        )
        raise MissingWeights(msg)
    folder = path.resolve()
    return Source(folder=folder, name=folder.name)


def _hub(identifier: str, revision: str | None) -> Source:
    failure: Exception | None = None
    for cached_only in (True, False):
        try:
            folder = _snapshot(identifier, revision=revision, cached_only=cached_only)
        except Exception as error:  # the hub's client raises a dozen unrelated classes
            failure = error
        else:
            return Source(folder=folder, name=identifier, revision=folder.name)
    reason = (str(failure).strip() or type(failure).__name__).splitlines()[0]
    pinned = f" --revision {revision}" if revision else ""
    msg = (
        f"`model` must be on this disk or reachable; got the hub id {identifier!r}, which is neither cached "
        f"nor fetched ({reason}). Where there is a network run "
        f"`hf download {identifier}{pinned} --local-dir FOLDER` (after accepting its terms, if it is gated), "
        "bring FOLDER here and name it as the model."
    )
    raise MissingWeights(msg) from failure


def _snapshot(identifier: str, *, revision: str | None, cached_only: bool) -> Path:
    """The hub's files in the cache: safetensors where there are any, pickles otherwise."""
    from huggingface_hub import snapshot_download

    for weights in (_SAFE, _PICKLES):
        folder = Path(
            snapshot_download(
                identifier,
                revision=revision,
                allow_patterns=[*_FILES, *weights],
                local_files_only=cached_only,
            )
        )
        if any(path for pattern in weights for path in folder.rglob(pattern)):
            return folder
    msg = "no weight files among its files"
    raise FileNotFoundError(msg)


def sha256_of(files: Sequence[Path]) -> str:
    """SHA-256 of one file's bytes; of several, of the sorted lines `name:sha256`.

    A single file keeps its plain hash, so that it can be compared with the one on the hub.
    """
    hashes = {path.name: _sha256(path) for path in files}
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    return sha256_of_lines(f"{name}:{value}" for name, value in hashes.items())


def sha256_of_lines(lines: Iterable[str]) -> str:
    """SHA-256 of text lines, sorted."""
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
