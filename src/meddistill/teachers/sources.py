"""Where a teacher's files are: local paths first, then the hub's cache, then the hub."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meddistill.errors import MissingWeights, TeacherError, first_line
from meddistill.file_kinds import Met, absent, stand_in, unreadable
from meddistill.files import printable, utf8_alias
from meddistill.weight_formats import snapshot_in

_LOCAL: Final = "local-dir:"
_HUB: Final = "hf-hub:"
_FILES: Final = ("*.json", "*.txt", "*.model")
_SAFE: Final = ("*.safetensors",)
_PICKLES: Final = ("*.bin", "*.pt", "*.pth")
_CHUNK: Final = 1 << 22
_HEAD: Final = 1024
_FROM_THE_RECIPE: Final = "Relative paths start at the recipe's folder."


@dataclass(frozen=True, kw_only=True)
class Source:
    """A folder with a model's files; `name` is safe to publish, `revision` is a hub commit where known."""

    folder: Path
    name: str
    revision: str | None = None


def find_folder(model: str, *, base: Path, revision: str | None, local_only: bool = False) -> Source:
    """The folder that `model` names: `local-dir:PATH`, `hf-hub:ID`, or either without its prefix.

    Relative paths start at `base`. A bare name is a path where one exists and a hub id otherwise. With
    `local_only` nothing is fetched.

    Raises
    ------
    MissingWeights
        If a path does not exist, or the hub's model is not cached and cannot be fetched.
    """
    if model.startswith(_LOCAL):
        return _local(base / Path(model.removeprefix(_LOCAL)).expanduser(), model)
    if model.startswith(_HUB):
        return _hub(model.removeprefix(_HUB), revision, local_only=local_only)
    path = base / Path(model).expanduser()
    if path.is_dir():
        return _local(path, model)
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        return _hub(model, revision, local_only=local_only)
    return _local(path, model)


def find_file(name: str, *, base: Path, what: str) -> Path:
    """The file `name`, relative to `base`; raises TeacherError where there is none.

    A link stays one: in the hub's cache its name and its neighbours are what a file is known by.
    """
    path = (base / Path(name).expanduser()).absolute()
    if not path.is_file():
        found = absent(path) if path.is_symlink() else Met(repr(name), _FROM_THE_RECIPE)
        msg = f"`{what}` must be an existing file; got {found}"
        raise TeacherError(msg)
    try:
        with path.open("rb") as file:
            instead = stand_in(file.read(_HEAD), size=path.stat().st_size)
    except OSError as refusal:
        instead = unreadable(refusal)
    if instead is not None:
        msg = f"`{what}` must be the file itself; got {instead.what} ({name!r}). {instead.remedy}"
        raise TeacherError(msg)
    return utf8_alias(path.parent) / path.name


def _local(path: Path, model: str) -> Source:
    if not path.is_dir():
        msg = f"`model` must be an existing folder or a hub id; got {model!r}. {_FROM_THE_RECIPE}"
        raise MissingWeights(msg)
    folder = path.resolve()
    snapshot = snapshot_in(folder)
    if snapshot is not None:
        return Source(folder=utf8_alias(snapshot), name=printable(folder.name), revision=snapshot.name)
    return Source(folder=utf8_alias(folder), name=printable(folder.name))


def _hub(identifier: str, revision: str | None, *, local_only: bool) -> Source:
    failure = Exception()  # that of the last try
    for cached_only in (True,) if local_only else (True, False):
        try:
            folder = _snapshot(identifier, revision=revision, cached_only=cached_only)
        except Exception as error:  # the hub's client raises a dozen unrelated classes
            failure = error
        else:
            return Source(folder=folder, name=identifier, revision=folder.name)
    pinned = f" --revision {revision}" if revision else ""
    msg = (
        f"`model` must be on this disk or reachable; got the hub id {identifier!r}, which is neither cached "
        f"nor fetched ({first_line(failure)}). Where there is a network run "
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
