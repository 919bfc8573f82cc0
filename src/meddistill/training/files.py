"""Files that are whole or absent."""

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from meddistill.errors import CheckpointError


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write at `place` into CheckpointError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        rule = "lie on a disk with room" if full else "be writable"
        msg = (
            f"`{place}` must {rule}; got: {error.strerror or error}. "
            "Mend that and give the same command again: what is finished is kept."
        )
        raise CheckpointError(msg) from error


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """A state dict as safetensors, flushed to the disk. Tensors that share memory are written out each."""
    # Cloned: the format refuses tied weights and views.
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in state.items()}, path)
    sync_file(path)


def write_durably(path: Path, text: str) -> None:
    """Write a file so that it is whole or absent, whatever happens meanwhile."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    sync_file(partial)
    partial.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The hash of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
