"""The JSON files of a bundle as they are written, and whether a folder is a whole bundle."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from meddistill.bundle_format import MANIFEST, FileEntry, Manifest
from meddistill.files import sha256_of


def write_json(record: BaseModel, path: Path) -> None:
    """Write a record as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether a folder is a bundle whose files are those that its manifest names, byte for byte."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return False
    return records_of(folder) == dict(manifest.files)


def records_of(folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file of the folder but its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size)
        for path in files
    }
