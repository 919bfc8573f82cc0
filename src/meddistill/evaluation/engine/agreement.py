"""How much a student's space is like a teacher's, on the tested images.

- `cka`: linear centred kernel alignment (Kornblith et al. 2019) with the unbiased estimator of HSIC (Song et
  al., "Feature selection via dependence maximization", JMLR 2012, eq. 5). 1 for spaces that are equal up to
  rotation and scale, about 0 for unrelated ones. The plain estimator is near 1 for *any* two spaces when
  there are fewer images than dimensions, which is the usual case here.
- `neighbours`: mean share of the 10 nearest neighbours (cosine) that an image has in both spaces. Chance is
  10 / (n - 1).
- `labels`: share of rows of the zero-shot tasks on which both models choose the same class.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np

from meddistill.arrays import Flags, Floats, Floats32, Places
from meddistill.data.samples import Samples
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.results import ALL_ROWS, Agreement
from meddistill.evaluation.base.score import by_modality
from meddistill.evaluation.engine.registry import AnyTask
from meddistill.evaluation.engine.run_predictions import Dumps, Setting
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.metrics import predicted_share
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.classification.zero_shot import ZeroShot

NEIGHBOURS: Final = 10
LEAST: Final = 2 * NEIGHBOURS + 1
MOST: Final = 2000

Measure = Literal["cka", "neighbours", "labels"]


def linear_cka(first: Floats32, second: Floats32) -> float:
    """Unbiased linear CKA of two sets of embeddings [n, d] and [n, e] of the same n >= 4 images.

    Zero where a space is constant. Can be slightly below zero.
    """
    return cosine(centred_gram(first), centred_gram(second))


def centred_gram(embeddings: Floats32) -> Floats:
    """Similarities of n >= 4 rows to one another, U-centred, [n, n]; the sum of all squares is 1, or 0.

    K̃_ij = K_ij - (K_i. + K_.j) / (n - 2) + K.. / ((n - 1)(n - 2)) off the diagonal and 0 on it, of
    K = X Xᵀ without its diagonal. <K̃, L̃> / (n (n - 3)) is the unbiased HSIC (Székely & Rizzo, "Partial
    distance correlation", 2014, definition 2), so that CKA is the cosine of two such matrices.
    """
    n = len(embeddings)
    wide = embeddings.astype(np.float64)
    shifted = wide - wide.mean(axis=0)  # changes nothing in exact arithmetic, and much in float
    spread = np.sqrt(np.square(shifted).mean())
    shifted = shifted / spread if spread > 0 else shifted
    gram: Floats = shifted @ shifted.T
    np.fill_diagonal(gram, 0)
    sums = gram.sum(axis=0)
    gram += sums.sum() / ((n - 1) * (n - 2))
    gram -= sums[:, None] / (n - 2)
    gram -= sums[None, :] / (n - 2)
    np.fill_diagonal(gram, 0)
    length = np.linalg.norm(gram)
    return gram / length if length > 0 else gram


def cosine(first: Floats, second: Floats) -> float:
    """Σ of products of two matrices from `centred_gram`: the CKA of their spaces."""
    return float(np.vdot(first, second))


def neighbour_overlap(first: Floats32, second: Floats32, k: int = NEIGHBOURS) -> float:
    """Mean share of common members among the `k` nearest neighbours in both spaces; n > k images."""
    return common_neighbours(neighbours(normalized(first), k), neighbours(normalized(second), k))


def common_neighbours(first: Flags, second: Flags) -> float:
    """Mean share of common members of two matrices from `neighbours`."""
    return float((first & second).sum() / first.sum())


def neighbours(embeddings: Floats32, k: int = NEIGHBOURS) -> Flags:
    """Which rows are among the `k` nearest of each row, by dot product, [n, n]; never a row itself."""
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    chosen = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    near = np.zeros(similarity.shape, dtype=bool)
    np.put_along_axis(near, chosen, values=True, axis=1)
    return near


def space_agreement(
    student: str, teacher: str, spaces: tuple[Floats32, Floats32], modalities: Sequence[str]
) -> Iterator[Agreement]:
    """CKA and neighbour overlap on all images and on those of each modality with enough of them.

    `spaces` are the student's and the teacher's embeddings of the same images [n, ...], in an order that has
    nothing to do with their content: of more than 2,000 the first are taken.
    """
    pair: dict[str, Any] = {"student": student, "teacher": teacher}
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
            yield Agreement(**pair, modality=modality, measure=measure, value=value, n=len(chosen))


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
    pair: dict[str, Any] = {"student": student, "teacher": teacher}
    for modality, rows in groups(modalities).items():
        value = float(same[rows].mean())
        yield Agreement(**pair, modality=modality, measure="labels", value=value, n=len(rows))


def groups(modalities: Sequence[str]) -> dict[str, Places]:
    """Rows of all, then of each known modality."""
    known = {name: np.flatnonzero(mask) for name, mask in by_modality(modalities).items()}
    return {ALL_ROWS: np.arange(len(modalities)), **known}


def agreement_of(setting: Setting, dumps: Dumps) -> list[Agreement]:
    """The student's agreement with every teacher, on all distinct tested images."""
    students = [each for each in setting.models if each.model.role == "student"]
    if not students or not setting.teachers:
        return []
    parts = _distinct_images(setting.tasks)
    modalities = [modality for samples, _ in parts for modality in samples.modalities]
    spaces = {
        each.model.name: np.concatenate([each.images(samples, keys) for samples, keys in parts])
        for each in (*students, *setting.teachers)
    }
    # An order without meaning: of a large modality only the first images are compared.
    keys = [key for _, listed in parts for key in listed]
    order = sorted(range(len(keys)), key=lambda row: hashlib.sha256(keys[row].encode()).hexdigest())
    modalities = [modalities[row] for row in order]
    agreements: list[Agreement] = []
    for student in (each.model.name for each in students):
        for teacher in (each.model.name for each in setting.teachers):
            pair = (spaces[student][order], spaces[teacher][order])
            agreements += space_agreement(student, teacher, pair, modalities)
            agreements += label_agreement(
                student, teacher, _zero_shot_pairs(setting.tasks, dumps, student, teacher)
            )
    return agreements


def _distinct_images(tasks: Sequence[AnyTask]) -> list[tuple[Samples, list[str]]]:
    """Every distinct tested image once: samples and their keys, a task at a time."""
    seen: set[str] = set()
    parts = []
    for task in tasks:
        chosen = []
        for row, key in enumerate(task.tested.keys):
            if key not in seen:
                seen.add(key)
                chosen.append(row)
        if chosen:
            parts.append((task.tested.samples.take(chosen), [task.tested.keys[row] for row in chosen]))
    return parts


def _zero_shot_pairs(
    tasks: Sequence[AnyTask], dumps: Mapping[tuple[str, str], Predictions], student: str, teacher: str
) -> list[tuple[ClassPredictions, ClassPredictions]]:
    pairs = []
    for task in tasks:
        mine, theirs = dumps.get((student, task.name)), dumps.get((teacher, task.name))
        if (
            isinstance(mine, ClassPredictions)
            and isinstance(theirs, ClassPredictions)
            and isinstance(task, ZeroShot)
        ):
            pairs.append((mine.main, theirs.main))
    return pairs
