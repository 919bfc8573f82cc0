"""A file that lies inside another one, unpacked and uncompressed: a member of a tar."""

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from meddistill.errors import ImageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 16
# Up to here one read of the whole part is cheaper than a window on it, even if a header is all that is asked.
_AT_ONCE = 1 << 20
_READ_ONLY = os.O_RDONLY | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class FilePart:
    """`size` bytes of the file `whole` from byte `start`; `name` is what they are called there.

    It can be asked what the decoders ask a `Path`, so one code reads loose files and members of an archive.
    Every `open` has a handle of its own: parts may be read from any number of threads and processes.
    """

    whole: Path
    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.whole}/{self.name}"

    def is_dir(self) -> bool:
        """Whether it is a folder; never."""
        return False

    def is_file(self) -> bool:
        """Whether the file around it is there."""
        return self.whole.is_file()

    def open(self, mode: Literal["rb"]) -> io.BufferedReader | io.BytesIO:
        """These bytes alone, as a seekable file.

        Raises ImageError if the file around them ends earlier; OSError if it cannot be read.
        """
        if self.size > _AT_ONCE:
            whole = self.whole.open(mode, buffering=0)
            if os.fstat(whole.fileno()).st_size < self.start + self.size:
                whole.close()
                raise self._cut_off()
            return io.BufferedReader(_Window(whole, self), _BUFFER)
        # Without a file object around the archive a part costs what a loose file does.
        handle = os.open(self.whole, _READ_ONLY)
        try:
            os.lseek(handle, self.start, os.SEEK_SET)
            content = b""
            while len(content) < self.size and (block := os.read(handle, self.size - len(content))):
                content += block  # a read may be short before the end, on some file systems
        finally:
            os.close(handle)
        if len(content) < self.size:
            raise self._cut_off()
        return io.BytesIO(content)

    def read_bytes(self) -> bytes:
        """All of it; see `open`."""
        with self.open("rb") as file:
            return file.read()

    def _cut_off(self) -> ImageError:
        shown = str(self).encode("utf-8", "replace").decode("utf-8")
        msg = f"`{shown}` must lie inside its archive; got an archive that ends before. Copy it again."
        return ImageError(msg)


ImageFile = Path | FilePart


class _Window(io.RawIOBase):
    """A part of an open file; closes it with itself."""

    def __init__(self, whole: io.FileIO, part: FilePart) -> None:
        super().__init__()
        self.name = str(part)  # libraries ask every file for one
        self._whole = whole
        self._start = part.start
        self._size = part.size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            msg = f"`offset` must not lead before the beginning; got {offset}."
            raise ValueError(msg)
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        left = max(0, self._size - self._place)
        self._whole.seek(self._start + self._place)
        count = self._whole.readinto(memoryview(buffer)[:left]) or 0
        self._place += count
        return count

    def close(self) -> None:
        self._whole.close()
        super().close()
