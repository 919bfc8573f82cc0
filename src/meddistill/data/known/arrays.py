"""Images that stand in arrays: read one after another, written as PNG."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from meddistill.data.threads import thread_map
from meddistill.errors import TableError, one_line
from meddistill.file_kinds import Met, met, unreadable

Pixels = NDArray[np.uint8]
_TOGETHER: Final = 512


@dataclass(frozen=True)
class StoredArray:
    """An array in an `.npz` file, read without ever being whole in memory.

    A `.npy` of objects is a pickle, which can run code when it is read; it is refused by its header.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @classmethod
    def open(cls, path: Path, name: str) -> "StoredArray":
        """Read the header. Raises TableError for a file that is no `.npz`, or lacks such an array."""
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = _HEADERS[version]
                shape, fortran, dtype = read(file)
        except UNREADABLE as error:
            raise TableError(str(path), [why_not(path, name, error)]) from None
        if fortran or dtype.hasobject or dtype != np.uint8 or not shape:
            rule = f"`{name}` must hold unsigned bytes in C order; got {dtype}, shape {shape}."
            raise TableError(str(path), [rule])
        return cls(path, name, tuple(shape), dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Pixels]:
        size = int(np.prod(self.shape[1:], dtype=np.int64))
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.name}.npy") as file:
            _HEADERS[np.lib.format.read_magic(file)](file)
            for _ in range(len(self)):
                content = file.read(size)
                if len(content) < size:
                    rule = f"`{self.name}` must hold {len(self)} entries; it ends before. Copy it again."
                    raise TableError(str(self.path), [rule])
                yield np.frombuffer(content, np.uint8).reshape(self.shape[1:])


# RuntimeError: packed with a password; NotImplementedError: packed by another method.
UNREADABLE: Final = (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def why_not(path: Path, name: str, error: Exception) -> str:
    """What keeps an array from being read, in a sentence."""
    rule = f"`{name}` must be an array of an .npz file"
    if not isinstance(error, KeyError):
        return f"{rule}; got {_met(path, error)}"
    with zipfile.ZipFile(path) as archive:
        names = [member.removesuffix(".npy") for member in archive.namelist()]
    if name in names:
        return f"{rule}; got version {error} of the format. Save it anew with numpy.savez."
    held = ", ".join(names)
    return f"{rule}; the file has none of this name, it holds {held}. Is it another set under this name?"


def _met(path: Path, error: Exception) -> Met:
    if isinstance(error, OSError):
        return met(path) if path.is_dir() or not path.exists() else unreadable(error)
    said = one_line(error, longest=160)
    if zipfile.is_zipfile(path):
        if isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):  # its own checksum and packing
            return Met(f"damaged contents ({said})", "Copy it again.")
        return Met(f"what numpy or zip cannot read ({said})", "Save it anew with numpy.savez.")
    found = met(path)
    return Met("a zip archive without its end", "Copy it again.") if found.what == "a zip archive" else found


_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def digest(pixels: Pixels) -> bytes:
    """Which picture it is: equal pixels of equal shape have one digest."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).digest()


def write_pngs(
    pictures: Iterable[tuple[Path, Pixels]], *, advance: Callable[[int], None] | None = None
) -> None:
    """Write pictures, `(h, w)` grey or `(h, w, 3)` colour, some hundred at a time on all cores."""
    waiting = iter(pictures)
    while some := list(islice(waiting, _TOGETHER)):
        thread_map(_write_png, some, advance=advance)


def _write_png(picture: tuple[Path, Pixels]) -> None:
    path, pixels = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG", compress_level=4)


def check_pictures(path: Path, name: str, shape: Sequence[int]) -> None:
    """Raise TableError for an array that holds no grey or colour pictures."""
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
        rule = f"`{name}` must hold grey or colour pictures; got shape {tuple(shape)}. "
        raise TableError(str(path), [f"{rule}Three-dimensional sets are not read."])
