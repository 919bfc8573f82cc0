"""What teachers are evaluated by: retrieval, classes that captions share, and modalities, each on a group.

Every part turns one teacher's vectors into a matrix of similarities between its images and its answers, and
such a matrix, a teacher's own or an ensemble's, into a score for the sample and for every resample.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import final

import numpy as np

from meddistill.arrays import Flags, Floats, Floats32, Ints, Places
from meddistill.evaluation.audit.record import Family
from meddistill.evaluation.audit.sample import AuditSample
from meddistill.evaluation.audit.spaces import Space
from meddistill.evaluation.base.bootstrap import Replicates, Weights
from meddistill.evaluation.engine.agreement import LEAST
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.metrics import main_metric
from meddistill.evaluation.tasks.retrieval.metrics import MAIN, chance_of, rank_metrics
from meddistill.evaluation.tasks.retrieval.task import ranks_in

LEAST_OF_A_CLASS = 10
_MOST_CLASSES = 1000


class AuditCheck(ABC):
    """A family of questions on the images at positions `images` of the sample.

    `answers` is how many captions or classes an image stands against.
    """

    family: Family

    def __init__(self, modality: str, images: Places, answers: int) -> None:
        self.modality = modality
        self.images = images
        self.answers = answers

    @abstractmethod
    def similarities(self, space: Space) -> tuple[Floats32, Flags]:
        """Similarities [images, answers] of one teacher, and where both sides are available to it."""

    @abstractmethod
    def replicates(self, similarity: Floats32, weights: Weights) -> dict[str, Replicates]:
        """Metrics of a matrix under `weights` [R, images of the sample]; the main one first."""

    @abstractmethod
    def chance(self) -> float:
        """The main metric of guessing."""

    @abstractmethod
    def narrowed(self, space: Space) -> "AuditCheck | None":
        """The same part on what a teacher is available for; None where too little is left."""


@final
class RetrievalPart(AuditCheck):
    """Images to captions and captions to images, among those of one group.

    Positives are all pairs that the store holds among them. The metric is `mean_recall`: the mean of hit@1,
    hit@5 and hit@10 of both directions, as in the retrieval task. An image is resampled with its queries; a
    caption beside several images stands for each of them in equal parts.
    """

    family: Family = "retrieval"

    def __init__(self, modality: str, images: Places, texts: Places, right: Flags) -> None:
        super().__init__(modality, images, len(texts))
        self._texts = texts
        self._right = right
        image, text = np.nonzero(right)
        self._directions = np.repeat([0, 1], [len(images), len(text)])
        self._queries = np.concatenate([np.arange(len(images)), text])
        self._groups = np.concatenate([np.arange(len(images)), image])
        self._shares = np.concatenate([np.ones(len(images)), 1 / right.sum(axis=0)[text]])

    def similarities(self, space: Space) -> tuple[Floats32, Flags]:
        """Cosines."""
        return _cosines(space, self.images, self._texts)

    def replicates(self, similarity: Floats32, weights: Weights) -> dict[str, Replicates]:
        """Mean recall and the six hit rates."""
        ranks = (ranks_in(similarity, self._right), ranks_in(similarity.T, self._right.T))
        metrics = rank_metrics(
            directions=self._directions,
            ranks=np.concatenate([ranks[0], ranks[1][self._queries[len(self.images) :]]]),
            shares=self._shares,
            weights=weights[:, self.images],
            groups=self._groups,
        )
        return {name: values for name, values in metrics.items() if "median" not in name}

    def chance(self) -> float:
        """Mean over both directions of `chance_of`."""
        directions = (self._right, self._right.T)
        return float(np.mean([chance_of(each.sum(axis=1), each.shape[1]).mean() for each in directions]))

    def narrowed(self, space: Space) -> "RetrievalPart | None":
        """Only the images and captions that the teacher is available for."""
        images = space.there["image"][self.images]
        texts = space.there["text"][self._texts]
        return _retrieval(
            self.modality, self.images[images], self._texts[texts], self._right[np.ix_(images, texts)]
        )


def _cosines(space: Space, images: Places, texts: Places) -> tuple[Floats32, Flags]:
    """Of every image with every text, and where both are available."""
    there = np.outer(space.there["image"][images], space.there["text"][texts])
    return space.vectors["image"][images] @ space.vectors["text"][texts].T, there


def _retrieval(modality: str, images: Places, texts: Places, right: Flags) -> RetrievalPart | None:
    asked, answered = right.any(axis=1), right.any(axis=0)
    kept = right[np.ix_(asked, answered)]
    if kept.shape[0] < LEAST or kept.shape[1] < LEAST:
        return None
    return RetrievalPart(modality, images[asked], texts[answered], kept)


class _Classes(AuditCheck):
    """Images with one right class each."""

    def __init__(self, modality: str, images: Places, truth: Ints, classes: int) -> None:
        super().__init__(modality, images, classes)
        self._truth = truth

    def replicates(self, similarity: Floats32, weights: Weights) -> dict[str, Replicates]:
        """Balanced accuracy."""
        mine = weights[:, self.images]
        scores = similarity.astype(np.float64)
        return {"balanced_accuracy": main_metric(self._truth, scores, mine, np.arange(len(self.images)))}

    def chance(self) -> float:
        """1 over the classes."""
        return 1 / self.answers


@final
class ZeroShotPart(_Classes):
    """Classes are the texts that stand beside ten or more images; each image has exactly one of them."""

    family: Family = "zero_shot"

    def __init__(self, modality: str, images: Places, truth: Ints, texts: Places) -> None:
        super().__init__(modality, images, truth, len(texts))
        self._texts = texts

    def similarities(self, space: Space) -> tuple[Floats32, Flags]:
        """Cosines with the class texts."""
        return _cosines(space, self.images, self._texts)

    def narrowed(self, space: Space) -> "ZeroShotPart | None":
        """Only the images and classes that the teacher is available for."""
        texts = space.there["text"][self._texts]
        images = space.there["image"][self.images] & texts[self._truth]
        return _zero_shot(self.modality, self.images[images], self._texts[self._truth[images]])


def _zero_shot(modality: str, images: Places, text_of: Places) -> ZeroShotPart | None:
    texts, truth, sizes = np.unique(text_of, return_inverse=True, return_counts=True)
    kept = sizes >= LEAST_OF_A_CLASS
    chosen = kept[truth]
    if not 2 <= kept.sum() <= _MOST_CLASSES:
        return None
    return ZeroShotPart(modality, images[chosen], (np.cumsum(kept) - 1)[truth[chosen]], texts[kept])


@final
class ModalityPart(_Classes):
    """Which modality an image is of, by the mean direction of the captions of each.

    Similarity of image i and modality c: the cosine of v_i with Σ over the captions of c, captions of image
    i left out.
    """

    family: Family = "modality"

    def __init__(self, images: Places, truth: Ints, names: tuple[str, ...], sample: AuditSample) -> None:
        super().__init__("", images, truth, len(names))
        self._names = names
        self._sample = sample

    def similarities(self, space: Space) -> tuple[Floats32, Flags]:
        """Cosines with the modalities' mean captions."""
        images, texts = space.vectors["image"][self.images].astype(np.float64), space.vectors["text"]
        there = space.there
        cosines = np.zeros((len(images), len(self._names)))
        known = np.zeros(cosines.shape, dtype=np.bool_)
        own = _sums(self._sample.pairs, texts, there["text"], len(self._sample.image_rows))[self.images]
        for column, name in enumerate(self._names):
            members = self._sample.texts_of(self._sample.image_groups[name])
            members = members[there["text"][members]]
            known[:, column] = len(members) > 0
            centre = texts[members].astype(np.float64).sum(axis=0)
            centres = centre - own * (self._truth == column)[:, None]
            cosines[:, column] = (images * normalized(centres)).sum(axis=1)
        # Who knows one modality alone cannot tell it from others, and has no voice.
        voice = there["image"][self.images] & (known[:1].sum() > 1)
        return cosines.astype(np.float32), known & voice[:, None]

    def narrowed(self, space: Space) -> "ModalityPart | None":
        """Only the images that the teacher is available for."""
        images = self.images[space.there["image"][self.images]]
        return _modality(self._sample, images)


def _sums(pairs: Ints, texts: Floats32, there: Flags, images: int) -> Floats:
    """The sum of the available captions' vectors of every image, [images, dim]."""
    kept = pairs[there[pairs[:, 1]]]
    sums = np.zeros((images, texts.shape[1]))
    np.add.at(sums, kept[:, 0], texts[kept[:, 1]].astype(np.float64))
    return sums


def _modality(sample: AuditSample, images: Places) -> ModalityPart | None:
    groups: Mapping[str, Places] = {
        name: rows[np.isin(rows, images)] for name, rows in sample.image_groups.items() if name
    }
    large = {name: rows for name, rows in groups.items() if len(rows) >= LEAST}
    if len(large) < 2:
        return None
    truth = np.repeat(np.arange(len(large)), [len(rows) for rows in large.values()])
    return ModalityPart(np.concatenate(list(large.values())), truth, tuple(large), sample)


def parts_of(sample: AuditSample) -> Iterator[AuditCheck]:
    """Every part that the sample has enough images for: of all images, and of each modality."""
    if not len(sample.pairs):
        return
    right = np.zeros((len(sample.image_rows), len(sample.text_rows)), dtype=np.bool_)
    right[sample.pairs[:, 0], sample.pairs[:, 1]] = True
    labelled, text_of = _labels(sample)
    checks: list[AuditCheck | None] = []
    for modality, images in sample.image_groups.items():
        texts = sample.texts_of(images)
        checks.append(_retrieval(modality, images, texts, right[np.ix_(images, texts)]))
        chosen = np.isin(labelled, images)
        checks.append(_zero_shot(modality, labelled[chosen], text_of[chosen]))
    paired = np.unique(sample.pairs[:, 0])
    checks.append(_modality(sample, paired))
    yield from (part for part in checks if part is not None)


def _labels(sample: AuditSample) -> tuple[Places, Places]:
    """Images with exactly one text that many images share, and that text."""
    sizes = np.bincount(sample.pairs[:, 1], minlength=len(sample.text_rows))
    shared = sample.pairs[sizes[sample.pairs[:, 1]] >= LEAST_OF_A_CLASS]
    images, counts = np.unique(shared[:, 0], return_counts=True)
    single = shared[np.isin(shared[:, 0], images[counts == 1])]
    return single[:, 0], single[:, 1]


def main_of(metrics: Mapping[str, Replicates]) -> Replicates:
    """The main metric of a part's metrics."""
    return metrics[MAIN] if MAIN in metrics else metrics["balanced_accuracy"]
