"""What the verbs that use a bundle share: image references, mistakes, and texts from one argument."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from meddistill.bundle_format import Precision
from meddistill.errors import ImageError
from meddistill.imaging import ImageRef
from meddistill.runtime.pipeline import OnMistake

_MOST_NAMES: Final = 5

BundleFolder = Annotated[Path, Parameter(help="Folder of an exported bundle.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selectors:
    """Which picture of each file."""

    frame: Annotated[int | None, Parameter(help="DICOM frame, TIFF page or NIfTI volume, from 0.")] = None
    axis: Annotated[int | None, Parameter(help="NIfTI axis: 0 sagittal, 1 coronal, 2 axial.")] = None
    slice: Annotated[int | None, Parameter(help="NIfTI slice along the axis, from 0.")] = None

    def references(self, images: list[Path]) -> list[ImageRef]:
        """The same selectors for each of several files."""
        return [ImageRef(path, frame=self.frame, axis=self.axis, slice=self.slice) for path in images]


DEFAULT_SELECTORS = Selectors()


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EmbedOptions:
    """How images are turned into vectors."""

    precision: Annotated[
        Precision, Parameter(help="Which towers to run, of a bundle that has them in 8 bits too.")
    ] = "float32"
    on_error: Annotated[
        Literal["raise", "skip"],
        Parameter(help="What an image that cannot be read does: stop, or be left out."),
    ] = "raise"

    @property
    def on_mistake(self) -> OnMistake | None:
        """None to raise, else a function that tells each skipped image on stderr."""
        return None if self.on_error == "raise" else _tell


DEFAULT_EMBED_OPTIONS = EmbedOptions()


def refuse_nothing_read(asked: int, read: int) -> None:
    """An ImageError where images were asked for and every one was skipped."""
    if asked and not read:
        msg = f"None of {asked} images could be read."
        raise ImageError(msg)


def warn_of_flat(names: Sequence[str]) -> None:
    """Say on stderr which pictures show next to nothing of what their files store."""
    if names:
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        count = "1 image shows" if len(names) == 1 else f"{len(names)} images show"
        sys.stderr.write(
            f"Warning: {count} at most 3 greys of 16 values or more in the file: "
            f"{', '.join(names[:_MOST_NAMES])}{more}. Its window may not fit.\n"
        )


def split_labels(labels: str) -> list[str]:
    """Comma-separated labels; quotes keep a comma: `'ct, "head, neck"'`."""
    rows = list(csv.reader([labels.replace("\n", " ")], skipinitialspace=True))
    return [label.strip() for row in rows for label in row]


def _tell(_: int, error: ImageError) -> None:
    sys.stderr.write(f"Skipped: {error}\n")
