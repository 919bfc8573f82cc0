"""MedMNIST v2, its two-dimensional sets: `<flag>.npz` or `<flag>_<size>.npz` in one folder."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meddistill.core_yaml import load_yaml
from meddistill.data.known import tasks
from meddistill.data.known.arrays import (
    UNREADABLE,
    Pixels,
    StoredArray,
    check_pictures,
    digest,
    why_not,
    write_pngs,
)
from meddistill.data.known.draft import Draft, DraftTable, Row, by_split
from meddistill.data.known.source import Source
from meddistill.errors import TableError

_SPLITS: Final = {"test": "test", "val": "validation", "train": "train"}  # the tested rows first
_FILE: Final = re.compile(r"(?P<flag>[a-z]+mnist)(?:_(?P<size>\d+))?\.npz")
_ROLES: Final = {"image": "image", "modality": "modality"}


@dataclass(frozen=True)
class _File:
    """One `.npz` with what is known of it; `name` names its table and tasks."""

    path: Path
    name: str
    facts: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        return list(self.facts["labels"])

    @property
    def multilabel(self) -> bool:
        return bool(self.facts.get("multilabel"))


@cache
def flags() -> Mapping[str, Mapping[str, Any]]:
    """The two-dimensional sets: flag → modality, data sets and labels in the order of their numbers."""
    text = files("meddistill.data.known").joinpath("medmnist.yaml").read_text(encoding="utf-8")
    content: Mapping[str, Mapping[str, Any]] = load_yaml(text)
    return content


def draft(source: Source) -> Draft:
    """Every two-dimensional set of the folder; pictures are written as PNG.

    Splits are the published ones. A picture of training or validation whose very pixels are tested as well is
    left out and counted: such rows would be refused by the tasks. The sets carry no patients.
    """
    made = Draft(notes=["no patient ids are published: intervals count every image as a patient"])
    for file in _found(source):
        rows = _rows(source, file, made.notes)
        table = DraftTable(
            name=file.name, rows=rows, views=by_split(file.name, rows), roles=_ROLES, in_place=False
        )
        made.tables.append(table)
        made.tasks += _tasks(file, table)
    return made


def _found(source: Source) -> list[_File]:
    files = []
    for path in sorted(source.folder.glob("*.npz")):
        match = _FILE.fullmatch(path.name)
        if match and match["flag"] in flags():
            files.append(_File(path, path.stem, flags()[match["flag"]]))
    if not files:
        msg = f"<flag>.npz, where <flag> is one of {', '.join(flags())}"
        raise source.not_that_layout([msg])
    return files


def _rows(source: Source, file: _File, notes: list[str]) -> list[Row]:
    tested: set[bytes] = set()
    rows: dict[str, list[Row]] = {}
    left_out = 0
    for key, split in _SPLITS.items():
        pictures = StoredArray.open(file.path, f"{key}_images")
        check_pictures(file.path, pictures.name, pictures.shape)
        labels = _labels(file, key, len(pictures))
        fresh = _Fresh(pictures, tested)
        places = ((source.images / _name(file, split, number), pixels) for number, pixels in fresh)
        with source.progress.track(f"{file.name} {split}", len(pictures)) as advance:
            write_pngs(places, advance=advance)
        tested |= fresh.digests
        left_out += len(pictures) - len(fresh.numbers)
        rows[split] = [_row(file, split, number, labels) for number in fresh.numbers]
    if left_out:
        notes.append(f"{file.name}: {left_out} images left out of training or validation: tested as well")
    return [*rows["train"], *rows["validation"], *rows["test"]]


class _Fresh:
    """The numbered pictures of one split that are not `tested` in another; remembers which they were."""

    def __init__(self, pictures: StoredArray, tested: set[bytes]) -> None:
        self._pictures = pictures
        self._tested = tested
        self.numbers: list[int] = []
        self.digests: set[bytes] = set()

    def __iter__(self) -> Iterator[tuple[int, Pixels]]:
        for number, pixels in enumerate(self._pictures):
            mark = digest(pixels)
            if mark not in self._tested:
                self.digests.add(mark)
                self.numbers.append(number)
                yield number, pixels


def _name(file: _File, split: str, number: int) -> str:
    return f"{file.name}/{split}/{number:06d}.png"


def _row(file: _File, split: str, number: int, labels: NDArray[np.int64]) -> Row:
    own = labels[number]
    said = (
        {name: str(value) for name, value in zip(file.labels, own, strict=True)}
        if file.multilabel
        else {"label": file.labels[own[0]]}
    )
    image = f"images/{_name(file, split, number)}"
    return {"image": image, **said, "modality": file.facts["modality"], "split": split}


def _labels(file: _File, key: str, count: int) -> NDArray[np.int64]:
    name = f"{key}_labels"
    try:
        with np.load(file.path, allow_pickle=False) as archive:
            labels = archive[name]
    except UNREADABLE as error:
        raise TableError(str(file.path), [why_not(file.path, name, error)]) from None
    width = len(file.labels) if file.multilabel else 1
    classes = 2 if file.multilabel else len(file.labels)
    rule = f"`{name}` must be {count} x {width} whole numbers from 0 to {classes - 1}"
    if labels.dtype.kind not in "iu" or labels.shape != (count, width):
        got = f"{labels.dtype}, shape {labels.shape}"
        raise TableError(str(file.path), [f"{rule}; got {got}. Is it another set under this name?"])
    wrong = labels[~np.isin(labels, range(classes))]
    if len(wrong):
        raise TableError(str(file.path), [f"{rule}; got {wrong[0]}. Is it another set under this name?"])
    return labels.reshape(count, width).astype(np.int64)


def _tasks(file: _File, table: DraftTable) -> list[dict[str, Any]]:
    dataset, modality = file.facts["dataset"], file.facts["modality"]
    if file.multilabel:
        return tasks.multilabel(file.name, table.views, {name: name for name in file.labels}, dataset=dataset)
    classes = {name: name for name in file.labels}
    prompted = tasks.zero_shot(file.name, f"{file.name}_test", classes, modality=modality, dataset=dataset)
    made = [prompted, *tasks.probes(file.name, table.views, dataset=dataset)]
    return [tasks.graded(each, file.labels) for each in made] if file.facts.get("ordinal") else made
