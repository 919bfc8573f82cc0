"""Images that cannot be decoded, all of them, before anything is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from meddistill.data.config import TableConfig
from meddistill.data.decoded import DecodedImages
from meddistill.data.samples import Samples, name_rows
from meddistill.data.table import SKIPPING, read_table
from meddistill.data.threads import thread_map
from meddistill.errors import ImageError, TableError
from meddistill.imaging import ImageRef, decode_beside, image_key
from meddistill.progress import Progress, SilentProgress


def read_readable(
    config: TableConfig,
    *,
    base: Path,
    columns: Sequence[str] = (),
    lists: Sequence[str] = (),
    images: Sequence[str] = (),
    progress: Progress | None = None,
    decoded: DecodedImages | None = None,
) -> Samples:
    """The rows of a table that meet every rule and whose images can be decoded; see `read_table`.

    Every image is decoded once, unless `decoded` knows it; it learns those that can be and are not flat, so
    that flat ones are counted (`Samples.flat_rows`) each time. Raises TableError with all mistakes of cells
    and of images together, or, under `on_error: skip`, when no row is left.
    """
    lenient = config.model_copy(update={"on_error": "skip"})
    samples = read_table(lenient, base=base, columns=columns, lists=lists, images=images)
    failures, flat = _look_at(samples, progress or SilentProgress(), decoded)
    samples = _without(samples, failures)
    rows = zip(samples.rows, samples.refs, strict=True)
    samples = replace(samples, flat_rows=tuple(row for row, ref in rows if ref in flat))
    if samples.skipped and (config.on_error == "raise" or not len(samples)):
        remedy = SKIPPING if len(samples) else None
        raise TableError(str(base / config.table), samples.skipped, remedy=remedy)
    return samples


def _without(samples: Samples, failures: Mapping[ImageRef, str]) -> Samples:
    good = [place for place, ref in enumerate(samples.refs) if ref not in failures]
    dropped = [row for row, ref in zip(samples.rows, samples.refs, strict=True) if ref in failures]
    return samples.take(good).skipping(_lines(samples, failures), dropped)


def _look_at(
    samples: Samples, progress: Progress, decoded: DecodedImages | None
) -> tuple[dict[ImageRef, str], set[ImageRef]]:
    """What is wrong with the images that cannot be decoded, and which of the others are flat."""
    good: set[str] = set()
    flat: set[ImageRef] = set()

    def failure(ref: ImageRef) -> str | None:
        try:
            key = "" if decoded is None else image_key(ref, samples.options)
            if (decoded is None or key not in decoded) and decode_beside(ref, samples.options).is_flat:
                flat.add(ref)
                return None
        except ImageError as error:
            return str(error)
        good.add(key)
        return None

    distinct = list(dict.fromkeys(samples.refs))
    with progress.track("checking images", len(distinct)) as advance:
        messages = thread_map(failure, distinct, advance=advance)
    if decoded is not None:
        decoded.add(good)
    failures = {ref: message for ref, message in zip(distinct, messages, strict=True) if message is not None}
    return failures, flat


def _lines(samples: Samples, failures: Mapping[ImageRef, str]) -> list[str]:
    rows: dict[ImageRef, list[int]] = {ref: [] for ref in failures}
    for row, ref in zip(samples.rows, samples.refs, strict=True):
        if ref in rows:
            rows[ref].append(row)
    return [f"{name_rows(rows[ref])}: {message}" for ref, message in failures.items()]
