"""The slides of patients, and their stored features as one vector a patient."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.data.samples import name_rows
from meddistill.errors import TableError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.tasks.bags.slide_features import read_features
from meddistill.evaluation.tasks.bags.stored import check_width


@dataclass(frozen=True, kw_only=True)
class Slides:
    """Names in the order in which the table first has them, each with its first row and its patient."""

    names: tuple[str, ...]
    rows: tuple[int, ...]
    patient: Ints


def read_slides(part: EvalSplit, of_row: Ints, column: str | None) -> Slides:
    """The slides of column `column`, by default one a patient, named by the patient.

    `of_row` is the patient of every row, from 0. Raises TableError where a slide is blank, or of several
    patients; rows are named, slides are not.
    """
    names = part.samples.patients if column is None else part.labels(column)
    first: dict[str, int] = {}
    shared = []
    for place, name in enumerate(names):
        owner = first.setdefault(name, place)
        if of_row[owner] != of_row[place]:
            shared += [part.samples.rows[owner], part.samples.rows[place]]
    if shared:
        rows = name_rows(sorted(set(shared)))
        rule = f"`{column}` must have rows of one patient for each slide; it has several in {rows}."
        raise TableError(part.subject, [f"{rule} Mend the patients, or leave these rows out."])
    places = list(first.values())
    rows_of = tuple(part.samples.rows[place] for place in places)
    return Slides(names=tuple(first), rows=rows_of, patient=of_row[places])


def mean_features(name: str, files: Sequence[Path], slides: Slides, patients: int) -> Floats:
    """Means over the tiles of every slide, and of these over the slides of every patient, [patients, d].

    `files` are those of the slides. So a slide of many tiles counts no more than one of few. Raises UserError
    for files that cannot be read, or have different widths.
    """
    vectors = [read_features(path).features.mean(axis=0, dtype=np.float64) for path in files]
    check_width(name, (len(each) for each in vectors))
    sums = np.zeros((patients, len(vectors[0])))
    np.add.at(sums, slides.patient, np.stack(vectors))
    return sums / np.bincount(slides.patient, minlength=patients)[:, None]
