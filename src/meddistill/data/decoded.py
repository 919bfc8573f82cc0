"""Which images were decoded before without a mistake, so that nobody decodes them only to look again."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from meddistill.files import write_changed

DECODED: Final = "decoded_images"
_BYTES: Final = 32


class DecodedImages:
    """Keys (`imaging.image_key`, sha256 of content and of all that moves pixels) in one file, 32 bytes each.

    A file that is absent or cut costs decoding again, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = path.read_bytes() if path.is_file() else b""
        whole = len(content) - len(content) % _BYTES
        self._keys = {content[start : start + _BYTES] for start in range(0, whole, _BYTES)}

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._keys

    def add(self, keys: Collection[str]) -> None:
        """Know more of them; `write` keeps them."""
        self._keys |= {bytes.fromhex(key) for key in keys}

    def write(self) -> None:
        """Write the file, unless it holds all of them already; it is whole at every moment."""
        write_changed(self._path, b"".join(sorted(self._keys)))
