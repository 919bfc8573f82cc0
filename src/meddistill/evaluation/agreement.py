"""How much a student's space is like a teacher's, on the tested images.

- `cka`: linear centred kernel alignment (Kornblith et al. 2019) with the unbiased estimator of HSIC (Song et
  al., "Feature selection via dependence maximization", JMLR 2012, eq. 5). 1 for spaces that are equal up to
  rotation and scale, about 0 for unrelated ones. The plain estimator is near 1 for *any* two spaces when
  there are fewer images than dimensions, which is the usual case here.
- `neighbours`: mean share of the 10 nearest neighbours (cosine) that an image has in both spaces. Chance is
  10 / (n - 1).
- `labels`: share of rows of the zero-shot tasks on which both models choose the same class.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.class_metrics import predicted_share
from meddistill.evaluation.predict import Floats, normalised
from meddistill.evaluation.predictions import ClassPredictions
from meddistill.evaluation.results import ALL_ROWS, Agreement

NEIGHBOURS: Final = 10
LEAST: Final = 2 * NEIGHBOURS + 1
MOST: Final = 2000

Matrix = NDArray[np.float64]
Measure = Literal["cka", "neighbours", "labels"]


def linear_cka(first: Floats, second: Floats) -> float:
    """Unbiased linear CKA of two sets of embeddings [n, d] and [n, e] of the same n >= 4 images.

    Zero where a space is constant. Can be slightly below zero.
    """
    grams = [_zero_diagonal(each.astype(np.float64)) for each in (first, second)]
    joint = _hsic(grams[0], grams[1])
    own = [_hsic(gram, gram) for gram in grams]
    scale = own[0] * own[1]
    return float(joint / np.sqrt(scale)) if min(own) > 0 and scale > 0 else 0.0


def _zero_diagonal(embeddings: Matrix) -> Matrix:
    centred = embeddings - embeddings.mean(axis=0)  # changes nothing in exact arithmetic, and much in float
    spread = np.sqrt(np.square(centred).mean())
    centred = centred / spread if spread > 0 else centred
    gram: Matrix = centred @ centred.T
    np.fill_diagonal(gram, 0)
    return gram


def _hsic(first: Matrix, second: Matrix) -> float:
    n = len(first)
    trace = (first * second).sum()
    means = first.sum() * second.sum() / ((n - 1) * (n - 2))
    rows = 2 * (first.sum(axis=0) @ second.sum(axis=0)) / (n - 2)
    return float((trace + means - rows) / (n * (n - 3)))


def neighbour_overlap(first: Floats, second: Floats, k: int = NEIGHBOURS) -> float:
    """Mean share of common members among the `k` nearest neighbours in both spaces; n > k images."""
    near = [_neighbours(normalised(each), k) for each in (first, second)]
    return float((near[0] & near[1]).sum() / near[0].sum())


def _neighbours(embeddings: Floats, k: int) -> NDArray[np.bool_]:
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    chosen = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    near = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(near, chosen, values=True, axis=1)
    return near


def space_agreement(
    student: str, teacher: str, spaces: tuple[Floats, Floats], modalities: Sequence[str]
) -> Iterator[Agreement]:
    """CKA and neighbour overlap on all images and on those of each modality with enough of them.

    `spaces` are the student's and the teacher's embeddings of the same images [n, ...], in an order that has
    nothing to do with their content: of more than 2,000 the first are taken.
    """
    for modality, rows in groups(modalities).items():
        chosen = rows[:MOST]
        if len(chosen) < LEAST:
            continue
        mine, theirs = (space[chosen] for space in spaces)
        values: Mapping[Measure, float] = {
            "cka": linear_cka(mine, theirs),
            "neighbours": neighbour_overlap(mine, theirs),
        }
        for measure, value in values.items():
            yield Agreement(
                student=student,
                teacher=teacher,
                modality=modality,
                measure=measure,
                value=value,
                n=len(chosen),
            )


def label_agreement(
    student: str, teacher: str, dumps: Sequence[tuple[ClassPredictions, ClassPredictions]]
) -> Iterator[Agreement]:
    """Share of equal decisions over the rows of all zero-shot tasks; `dumps` are (student's, teacher's)."""
    if not dumps:
        return
    modalities = [modality for mine, _ in dumps for modality in mine.modalities]
    same = np.concatenate(
        [
            (predicted_share(mine.scores) * predicted_share(theirs.scores)).sum(axis=1)
            for mine, theirs in dumps
        ]
    )
    for modality, rows in groups(modalities).items():
        yield Agreement(
            student=student,
            teacher=teacher,
            modality=modality,
            measure="labels",
            value=float(same[rows].mean()),
            n=len(rows),
        )


def groups(modalities: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Rows of all, then of each known modality."""
    column = np.array(modalities, dtype=object)
    known = sorted(set(modalities) - {""})
    return {ALL_ROWS: np.arange(len(column)), **{name: np.flatnonzero(column == name) for name in known}}
