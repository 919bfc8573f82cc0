"""PatchCamelyon: patches of lymph nodes in HDF5 files, with or without metastasis in their centre."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from meddistill.data.hdf5 import Hdf5RefusedError, hdf5_array, hdf5_file
from meddistill.data.known import tasks
from meddistill.data.known.arrays import Pixels, digest, write_pngs
from meddistill.data.known.draft import Draft, DraftTable, Row, by_split
from meddistill.data.known.source import Source, read_rows
from meddistill.errors import TableError

_NAME: Final = "patch_camelyon"
_DATASET: Final = ("PatchCamelyon", "Camelyon16")
_SPLITS: Final = {"test": "test", "valid": "validation", "train": "train"}  # the tested rows first
_LABELS: Final = ("normal", "tumour")
_CLASSES: Final = {"normal": "normal lymph node tissue", "tumour": "lymph node metastasis of breast cancer"}
_AT_ONCE: Final = 256


def draft(source: Source) -> Draft:
    """Patches in the published split, written as PNG; the slide (`wsi`) is the patient where known.

    A patch of training or validation whose very pixels are tested as well is left out and counted.
    """
    files = {
        split: {part: f"camelyonpatch_level_2_split_{split}_{part}.h5" for part in "xy"} for split in _SPLITS
    }
    missing = [name for own in files.values() for name in own.values() if source.first(name) is None]
    if missing:
        raise source.not_that_layout(missing)
    notes: list[str] = []
    tested: set[bytes] = set()
    rows: dict[str, list[Row]] = {}
    left_out = 0
    for theirs, split in _SPLITS.items():
        slides = _slides(source, theirs)
        rows[split], own, gone = _split(source, files[theirs], split, tested, slides=slides)
        tested |= own
        left_out += gone
    if left_out:
        notes.append(f"{left_out} patches left out of training or validation: tested as well")
    whole = [*rows["train"], *rows["validation"], *rows["test"]]
    roles = {"image": "image", "modality": "modality"}
    if all(row["patient"] for row in whole):
        roles["patient"] = "patient"
    else:
        notes.append("no table of slides (`..._meta.csv`): intervals count every patch as a patient")
    made = Draft(notes=notes)
    views = by_split(_NAME, whole)
    table = DraftTable(name=_NAME, rows=whole, views=views, roles=roles, in_place=False)
    made.tables.append(table)
    prompted = tasks.zero_shot(_NAME, f"{_NAME}_test", _CLASSES, modality="histology", dataset=_DATASET)
    made.tasks = [prompted, *tasks.probes(_NAME, views, dataset=_DATASET)]
    return made


def _split(
    source: Source, files: dict[str, str], split: str, tested: set[bytes], *, slides: list[str]
) -> tuple[list[Row], set[bytes], int]:
    rows: list[Row] = []
    own: set[bytes] = set()
    with (
        _array(source.folder / files["x"], "x") as pictures,
        _array(source.folder / files["y"], "y") as marks,
    ):
        labels = np.asarray(marks).reshape(-1)
        count = len(pictures)
        if pictures.shape[1:] != (96, 96, 3) or len(labels) != count or not np.isin(labels, (0, 1)).all():
            rule = (
                f"`x` must be [n, 96, 96, 3] and `y` n zeros and ones; got {pictures.shape}, {marks.shape}."
            )
            raise TableError(str(source.folder / files["x"]), [rule])
        if slides and len(slides) != count:
            rule = f"the table of slides must have {count} rows for {split}; got {len(slides)}."
            raise TableError(source.subject, [rule])

        def fresh() -> Iterator[tuple[Path, Pixels]]:
            for start in range(0, count, _AT_ONCE):
                for place, pixels in enumerate(pictures[start : start + _AT_ONCE], start=start):
                    mark = digest(pixels)
                    if mark in tested:
                        continue
                    own.add(mark)
                    name = f"{split}/{place:06d}.png"
                    label = _LABELS[int(labels[place])]
                    patient = slides[place] if slides else ""
                    row = {"image": f"images/{name}", "label": label, "patient": patient}
                    rows.append({**row, "modality": "histology", "split": split})
                    yield source.images / name, pixels

        with source.progress.track(f"{_NAME} {split}", count) as advance:
            write_pngs(fresh(), advance=advance)
    return rows, own, count - len(rows)


@contextmanager
def _array(path: Path, name: str) -> Iterator[Any]:
    """An array of an HDF5 file, read in parts; what lies in other files is refused."""
    try:
        with hdf5_file(path) as file:
            yield hdf5_array(file, name)
    except Hdf5RefusedError as refused:
        raise TableError(str(path), [f"the file {refused}"]) from None


def _slides(source: Source, split: str) -> list[str]:
    path = source.first(f"camelyonpatch_level_2_split_{split}_meta.csv")
    if path is None:
        return []
    return [row.get("wsi", "") for row in read_rows(path)]
