"""Arrays of HDF5 files of other programs: nothing is followed out of the file; a refusal has its cause."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from meddistill.errors import MissingExtra, one_line
from meddistill.file_kinds import Met, met, unreadable

_AGAIN: Final = "Copy the file again, or make it anew."
_CUT: Final = re.compile(r"truncated file: eof = (\d+).*stored_eof = (\d+)")
# What HDF5 says of contents that do not fit its checksums, its packing or its own layout.
_CORRUPT: Final = ("checksum", "inflate", "filter returned failure", "bad object header", "bad symbol table")


class Hdf5RefusedError(Exception):
    """A file or an array that cannot be read: `rule`, and in `got` what was met and what helps.

    Caught by whoever knows the file's place in a recipe, and told in an error of their own.
    """

    def __init__(self, rule: str, got: Met) -> None:
        self.rule = rule
        self.got = got
        super().__init__(f"must {rule}; got {got}")


@contextmanager
def hdf5_file(path: Path) -> Iterator[Any]:
    """The file, open for reading; what HDF5 refuses meanwhile is raised as Hdf5RefusedError.

    Raises MissingExtra where h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        library, extra = "h5py", "train"
        raise MissingExtra(library, extra) from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        rule = "be an HDF5 file that can be read"
        raise Hdf5RefusedError(rule, _why(path, error)) from error


def hdf5_array(file: Any, name: str) -> Any:
    """An array of an open file; raises Hdf5RefusedError for what lies elsewhere or is packed by a plug-in."""
    import h5py

    rule = f"hold an array `{name}` that can be read"
    try:
        link = file.get(name, getlink=True)
        # A link could lead to any other file of this machine.
        dataset = file[name] if isinstance(link, h5py.HardLink) else None
    except (KeyError, RuntimeError) as error:
        raise Hdf5RefusedError(rule, _contents(error)) from error
    if link is None:
        held = ", ".join(sorted(file)[:8]) or "nothing"
        met_names = Met(f"a file that holds {held}", "Compare it with the files of the others.")
        raise Hdf5RefusedError(rule, met_names)
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        elsewhere = Met("a group, a link or numbers of another file", "Store the numbers in the file itself.")
        raise Hdf5RefusedError(rule, elsewhere)
    if dataset.shape is None or not _has_numpy_type(dataset):
        kind = Met("one without values, or of a type that numpy does not have", "Store it as float32.")
        raise Hdf5RefusedError(rule, kind)
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
    absent = [str(each) for each in filters if not h5py.h5z.filter_avail(each)]
    if absent:
        packed = Met(
            f"one packed by a plug-in of HDF5 that is not here (filter {', '.join(absent)})",
            "Store it with gzip or unpacked.",
        )
        raise Hdf5RefusedError(rule, packed)
    return dataset


def _has_numpy_type(array: Any) -> bool:
    try:
        return array.dtype is not None
    except TypeError:
        return False


def _why(path: Path, error: Exception) -> Met:
    said = one_line(error)
    cut = _CUT.search(said)
    if cut:
        do = "Wait until it is written, copy it again, or make it anew."
        return Met(f"one of {cut[1]} bytes that should have {cut[2]}: cut off, or not written to its end", do)
    if "unable to lock" in said:
        return Met(
            "a file that another process writes, or a disk without locks (it cannot be locked)",
            "Wait until it is written; where nothing writes it, set HDF5_USE_FILE_LOCKING=FALSE.",
        )
    if "already open for" in said:
        return Met(
            "a file that is in use by a process that writes it, or that one left open when it ended",
            "Wait until it is written; where nothing writes it, make it anew: it was never closed.",
        )
    if "signature not found" in said:
        return met(path)
    if isinstance(error, OSError) and error.errno:
        found = met(path)
        return found if path.is_dir() or not path.exists() else unreadable(error)
    return _contents(error)


def _contents(error: Exception) -> Met:
    said = one_line(error)
    if any(sign in said for sign in _CORRUPT):
        return Met(f"damaged contents ({said})", _AGAIN)
    return Met(f"what HDF5 cannot read ({said})", "Update h5py, or write it anew.")
