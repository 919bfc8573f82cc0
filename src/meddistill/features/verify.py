"""Checking every byte of a feature store, and dropping what is damaged so that it is made again."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from meddistill.errors import StoreError, UserError
from meddistill.features.files import (
    MANIFEST,
    MANIFEST_COPY,
    FileEntry,
    copy_of,
    read_manifest,
    write_manifest,
    write_whole,
)
from meddistill.features.format import (
    TABLES,
    TEACHERS,
    UNSUMMARIZED,
    AnyManifest,
    Piece,
    StoreManifest,
    TeacherManifest,
    load_manifest,
    parse_manifest,
)
from meddistill.features.reader import files_of
from meddistill.features.workers import Workers
from meddistill.file_kinds import unreadable
from meddistill.files import sha256_of
from meddistill.progress import Advance, Progress, SilentProgress


@dataclass(frozen=True, kw_only=True)
class Damage:
    """One file that is not as it was written. `file` is relative to the store."""

    file: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file} {self.problem}"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found: files and bytes that were checked, and all damage."""

    files: int
    bytes: int
    damages: tuple[Damage, ...]


def verify(path: Path, *, progress: Progress | None = None) -> Verification:
    """Check the presence, the size and the hash of every file that a store's manifests name.

    Raises
    ------
    StoreError
        Only if `path` holds no store at all; damage, of manifests too, is reported in the result.
    UserError
        If the operating system refuses to read a file.
    """
    _require_store(path)
    damages = [damage for folder in _folders(path) for damage in _manifest_damage(path, folder)]
    files = list(_files(path))
    size = sum(file.bytes for _, file in files)
    with (progress or SilentProgress()).track("features verified", size, unit="bytes") as advance:
        for folder, file in files:
            problem = _problem(folder / file.file, file, advance)
            if problem is not None:
                damages.append(Damage(file=_relative(path, folder / file.file), problem=problem))
    return Verification(files=len(files), bytes=size, damages=tuple(damages))


def repair(path: Path, *, progress: Progress | None = None) -> Verification:
    """Verify, then make the store one that `extract` can complete; return what was found damaged.

    Damaged tables and manifests are restored from their copies. Damaged shards and statistics are dropped
    from their manifests, so that the next extraction makes them again, and only them; so are teachers whose
    folders were deleted.

    Raises
    ------
    StoreError
        If a table or a manifest is damaged together with its copy: then nothing tells what the rows were.
        Also if another process is writing.
    """
    _require_store(path)
    with Workers.join(path) as workers:
        if not workers.admit(alone=True):
            msg = f"`{path}` must have no writer at work while it is repaired; one is. Wait until it is done."
            raise StoreError(msg)
        manifests = [damage for folder in _folders(path) for damage in _manifest_damage(path, folder)]
        _restore(path, StoreManifest)
        _forget_deleted(path)
        for folder in _teachers(path):
            _restore(folder, TeacherManifest)
        verified = verify(path, progress=progress)
        damaged = {damage.file for damage in verified.damages}
        for pieces in load_manifest(path, StoreManifest).segments.values():
            for piece in pieces:
                _restore_table(path, piece, damaged)
        for folder in _teachers(path):
            _drop(path, folder, damaged)
    return replace(verified, damages=(*manifests, *verified.damages))


def _require_store(path: Path) -> None:
    if not (path / MANIFEST).is_file() and not (path / MANIFEST_COPY).is_file():
        load_manifest(path, StoreManifest)


def _teachers(path: Path) -> list[Path]:
    manifest = _best(path, StoreManifest)
    return [] if manifest is None else [path / TEACHERS / name for name in manifest.teachers]


def _folders(path: Path) -> list[Path]:
    return [path, *_teachers(path)]


def _manifest_damage(path: Path, folder: Path) -> Iterator[Damage]:
    for name in (MANIFEST, MANIFEST_COPY):
        if read_manifest(folder / name) is None:
            absent = not (folder / name).is_file()
            problem = "is missing" if absent else "is not as it was written"
            yield Damage(file=_relative(path, folder / name), problem=problem)


def _best(folder: Path, model: type[AnyManifest]) -> AnyManifest | None:
    for name in (MANIFEST, MANIFEST_COPY):
        content = read_manifest(folder / name)
        if content is not None:
            with suppress(ValidationError):
                return model.model_validate_json(content)
    return None


def _files(path: Path) -> Iterator[tuple[Path, FileEntry]]:
    store = _best(path, StoreManifest)
    if store is not None:
        for pieces in store.segments.values():
            yield from ((path / TABLES, file) for piece in pieces for file in (piece, copy_of(piece)))
    for folder in _teachers(path):
        teacher = _best(folder, TeacherManifest)
        if teacher is not None:
            yield from ((folder, file) for file in files_of(teacher))


def _problem(path: Path, file: FileEntry, advance: Advance) -> str | None:
    try:
        size = path.stat().st_size
        digest = sha256_of(path) if size == file.bytes else ""
    except FileNotFoundError:
        return "is missing"
    except OSError as refusal:
        # No damage: repairing must not drop what is sound.
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise UserError(msg) from refusal
    advance(file.bytes)
    if size != file.bytes:
        return f"has {size} bytes, not {file.bytes}"
    return None if digest == file.sha256 else "has another hash than when it was written"


def _forget_deleted(path: Path) -> None:
    """Take teachers whose folders were deleted out of the store's manifest, so that they are made again."""
    manifest = load_manifest(path, StoreManifest)
    kept = tuple(name for name in manifest.teachers if (path / TEACHERS / name).exists())
    if kept != manifest.teachers:
        write_manifest(path, manifest.model_copy(update={"teachers": kept}).model_dump_json(indent=1))


def _restore(folder: Path, model: type[AnyManifest]) -> None:
    best = _best(folder, model)
    if best is None:
        for content in filter(None, (read_manifest(folder / name) for name in (MANIFEST, MANIFEST_COPY))):
            parse_manifest(folder, content, model)  # whole, but of another version: says so
        again = "extract again" if model is StoreManifest else "repair and extract again"
        msg = (
            f"`{folder}` must have a whole {MANIFEST} or {MANIFEST_COPY}; both are damaged or missing. "
            f"Restore one of them from a backup, or delete the folder, and {again}."
        )
        raise StoreError(msg)
    if any(read_manifest(folder / name) is None for name in (MANIFEST, MANIFEST_COPY)):
        write_manifest(folder, best.model_dump_json(indent=1))


def _restore_table(path: Path, piece: Piece, damaged: set[str]) -> None:
    names = piece.file, copy_of(piece).file
    whole = [name for name in names if f"{TABLES}/{name}" not in damaged]
    if not whole:
        msg = (
            f"`{path / TABLES / piece.file}` or its copy must be whole: it lists the rows. Restore "
            "it from a backup, or delete the store and extract again."
        )
        raise StoreError(msg)
    if len(whole) == 1:
        for name in set(names) - set(whole):
            write_whole(path / TABLES / name, (path / TABLES / whole[0]).read_bytes())


def _drop(path: Path, folder: Path, damaged: set[str]) -> None:
    """Write a teacher's manifest without its damaged files, and without what is said of all rows."""
    manifest = load_manifest(folder, TeacherManifest)
    if not any(_relative(path, folder / file.file) in damaged for file in files_of(manifest)):
        return
    outputs = {
        name: output.model_copy(
            update={
                "shards": tuple(
                    shard for shard in output.shards if _relative(path, folder / shard.file) not in damaged
                )
            }
        )
        for name, output in manifest.outputs.items()
    }
    kept = manifest.model_copy(update={"outputs": outputs, **UNSUMMARIZED})
    write_manifest(folder, kept.model_dump_json(indent=1))


def _relative(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()
