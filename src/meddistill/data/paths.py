"""Image paths of a table: inside the root, or refused."""

import os
from pathlib import Path

from meddistill.files import printable


class PathRefusedError(Exception):
    """A path of a table that names no file inside the root; caught in this room, a line of a TableError."""


class ImageFolder:
    """Finds a table's images under `root`; remembers the folders it has resolved.

    A path may be relative to the root or absolute, but must end inside it after `..` and symbolic links are
    followed, so that a table from elsewhere cannot pull other files of the machine into a store or a report.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._folders: dict[Path, Path] = {}

    def find(self, cell: str) -> Path:
        """The file that a cell names; raises PathRefusedError for anything else."""
        if not cell:
            msg = "must name a file; got a blank"
            raise PathRefusedError(msg)
        try:
            path = self._resolved(self.root / cell)
            is_file = path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a null character
            msg = f"must name a file; got {shown(cell)} ({type(error).__name__})"
            raise PathRefusedError(msg) from None
        if not path.is_relative_to(self.root):
            got = shown(cell)
            if Path(os.path.normpath(self.root / cell)).is_relative_to(self.root):
                got = f"{got}, a link that leads outside of it"
            msg = f"must stay inside `root`; got {got}. Set `root` to a folder that holds all images"
            raise PathRefusedError(msg)
        if not is_file:
            msg = f"must name a file; got {shown(cell)}, {_what(path, cell)}"
            raise PathRefusedError(msg)
        return path

    def _resolved(self, path: Path) -> Path:
        if path.name == "..":
            return path.resolve()
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = path.parent.resolve()
        inner = folder / path.name
        return inner.resolve() if inner.is_symlink() else inner


def shown(cell: str) -> str:
    """A cell as a message may show it: short, and printable whatever it holds."""
    text = repr(printable(cell))
    return text if len(text) <= 80 else text[:77] + "..."


def _what(path: Path, cell: str) -> str:
    if path.is_dir():
        return "a folder"
    return "which does not exist; write folders with /" if "\\" in cell else "which does not exist"
