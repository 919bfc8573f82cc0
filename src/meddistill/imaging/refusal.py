"""The one form of a refused image, and silence for libraries that quote what they read."""

import logging
import re
import warnings

from meddistill.errors import ImageError
from meddistill.file_kinds import unreadable
from meddistill.imaging.file_part import ImageFile

_LIBRARIES = ("pydicom", "nibabel", "PIL")
_MOST_WORDS = 200
_SILENT = logging.CRITICAL + 1


def refusal(path: ImageFile, *, must: str, got: str, do: str) -> ImageError:
    """The error for a file that breaks a rule; none of its text is quoted, only sizes and names of kinds."""
    shown = str(path).encode("utf-8", "replace").decode("utf-8")
    return ImageError(f"`{shown}` must {must}; got {got}. {do}")


def not_readable(path: ImageFile, error: OSError | ValueError) -> ImageError:
    """The error for a file that could not be opened; ValueError is of a path with a null character."""
    if isinstance(error, FileNotFoundError | ValueError):
        return refusal(path, must="be a readable file", got=type(error).__name__, do="Mend the path.")
    why = unreadable(error)
    return refusal(path, must="be a readable file", got=why.what, do=why.remedy)


def unread(path: ImageFile, kind: str, error: Exception, *, words: str) -> ImageError:
    """The error for whatever else reading raised: the system's own words, or the library's, or its class.

    `words` are the library's; empty where they may quote a header.
    """
    if isinstance(error, OSError) and error.strerror:
        return refusal(
            path, must="be readable", got=error.strerror, do="Mend that, or copy the file elsewhere."
        )
    got = f"{type(error).__name__}: {' '.join(words.split())}" if words else type(error).__name__
    return refusal(
        path, must=f"be a {kind} of a kind that is read", got=got[:_MOST_WORDS], do="Save it again as PNG."
    )


def too_much_memory(path: ImageFile) -> ImageError:
    """The error for an image that does not fit into memory."""
    return refusal(path, must="fit into memory", got="far more", do="Scale it down, or save a part of it.")


def within(path: ImageFile, name: str, chosen: int | None, *, count: int, default: int) -> int:
    """The selected index, or the default; an index outside `[0, count - 1]` is an ImageError."""
    if chosen is None:
        return default
    if not 0 <= chosen < count:
        raise refusal(
            path,
            must=f"be read with a `{name}` in [0, {count - 1}]",
            got=str(chosen),
            do=f"It holds {count}, counted from 0.",
        )
    return chosen


def silence_libraries() -> None:
    """Drop the warnings and log records of the decoding libraries, for the rest of the process.

    They quote header values, and a header may hold a patient's name. `warnings.catch_warnings` would undo
    itself, but it swaps the filters of the whole process and so races between decoding threads; adding an
    ignore rule that is already there changes nothing. A level that is there is not set again: each time one
    is, all loggers of the process forget what they had worked out.
    """
    present = {entry[3].pattern for entry in warnings.filters if isinstance(entry[3], re.Pattern)}
    for library in _LIBRARIES:
        pattern = rf"{library}(\.|$)"
        if pattern not in present:
            warnings.filterwarnings("ignore", module=pattern)
    for name in (*_LIBRARIES, "nibabel.global"):
        logger = logging.getLogger(name)
        if logger.level != _SILENT:
            logger.setLevel(_SILENT)
