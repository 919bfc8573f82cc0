"""How well fused embeddings retrieve the validation pairs, beside each of the teachers they are made of."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from meddistill.arrays import Floats32
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import text_keys
from meddistill.data.samples import Samples
from meddistill.errors import ConfigError
from meddistill.features.availability import Mask, has_agreement
from meddistill.features.reader import FeatureStore
from meddistill.features.sources import StoredTeachers
from meddistill.fusion.trainee import FusionTrainee
from meddistill.recipes.derived import fused_rows
from meddistill.recipes.recall import mean_recall
from meddistill.records import TeacherOutputs
from meddistill.strict import Strict
from meddistill.teachers.card import TeacherCard

_CHUNK: Final = 1024
LEAST_PAIRS: Final = 2

Outputs = Mapping[str, TeacherOutputs]


class Comparison(Strict):
    """One teacher and the fused embeddings on the `pairs` that the teacher has: mean recall of both."""

    pairs: int
    teacher: float
    fused: float


class FusionScore(Strict):
    """Mean recall of the fused embeddings on all validation pairs that they have, and beside each teacher."""

    recall: float
    pairs: int
    teachers: Mapping[str, Comparison]

    @property
    def kept(self) -> bool:
        """Whether they are better than the best single teacher, and worse than none on its own pairs.

        The best single teacher is the best of those with the most pairs.
        """
        no_worse = all(each.fused >= each.teacher for each in self.teachers.values())
        best = self._best
        return no_worse and (best is None or self.teachers[best].fused > self.teachers[best].teacher)

    @property
    def _best(self) -> str | None:
        teachers = self.teachers
        return max(teachers, key=lambda name: (teachers[name].pairs, teachers[name].teacher), default=None)

    def sentence(self) -> str:
        """For people."""
        best = self._best
        if best is None:
            recall = f"mean recall {self.recall:.3f} of {self.pairs} validation pairs"
            return f"{recall}; no teacher could be compared"
        if self.kept:
            return f"fused embeddings retrieve better than a teacher alone ({self._figures(best)})"
        behind = min(self.teachers, key=lambda name: self.teachers[name].fused - self.teachers[name].teacher)
        return (
            f"left out: fused embeddings retrieve no better than a teacher alone ({self._figures(behind)}); "
            "later stages go on without them"
        )

    def _figures(self, teacher: str) -> str:
        comparison = self.teachers[teacher]
        return (
            f"mean recall {comparison.fused:.3f}, {teacher} {comparison.teacher:.3f}, of "
            f"{comparison.pairs} validation pairs"
        )


def too_few_pairs(count: int, *, of: int) -> list[str]:
    """One line where too few of the validation pairs are left for one to be missed."""
    if count >= LEAST_PAIRS:
        return []
    return [
        f"`data.validation` must have {LEAST_PAIRS} pairs at least that the stage's teachers may be asked "
        f"about; got {count} of {of}. Add rows of the teachers' modalities, lower `features.availability`, "
        "or leave the table out."
    ]


@final
class FusedRecall:
    """The validation pairs of which a fused embedding can be made, and what the teachers give for them.

    Raises ConfigError for fewer than two.
    """

    def __init__(
        self,
        store: FeatureStore,
        samples: Samples,
        keys: tuple[str, ...],
        *,
        cards: Mapping[str, TeacherCard],
        available: Mapping[str, Mask],
        device: torch.device,
    ) -> None:
        kept = np.flatnonzero(fused_rows(cards, available, samples.captioned, by_pair=False))
        ConfigError.raise_any("data", too_few_pairs(len(kept), of=len(samples)))
        samples, keys = samples.take(kept), tuple(keys[place] for place in kept)
        present = {name: mask[kept] for name, mask in available.items()}
        source = StoredTeachers(store, samples, tuple(cards), device=device, keys=keys, available=present)
        rows = SampleDataset(samples, student=None, keys=keys)
        places = [range(start, min(start + _CHUNK, len(samples))) for start in range(0, len(samples), _CHUNK)]
        self._given: list[Outputs] = [source.outputs(rows.batch(each, [0] * len(each))) for each in places]
        self._cards = cards
        self._available = present
        self._image_keys, self._text_keys = keys, text_keys(samples)

    def of_network(self, trainee: FusionTrainee) -> float:
        """Mean recall of the fused embeddings on all pairs."""
        return self._recall(*self._fused(trainee), np.ones(len(self._image_keys), dtype=np.bool_))

    @torch.no_grad()
    def evaluate(self, trainee: FusionTrainee) -> FusionScore:
        """The fused embeddings beside each teacher that has both towers and two of the pairs at least."""
        images, texts = self._fused(trainee)
        everything = np.ones(len(images), dtype=np.bool_)
        compared = {}
        for name, card in self._cards.items():
            mask = self._available[name]
            if not has_agreement(card) or mask.sum() < LEAST_PAIRS:
                continue
            own = self._embedded(partial(_pair, name))
            compared[name] = Comparison(
                pairs=int(mask.sum()),
                teacher=self._recall(*own, mask),
                fused=self._recall(images, texts, mask),
            )
        return FusionScore(
            recall=self._recall(images, texts, everything), pairs=len(images), teachers=compared
        )

    @torch.no_grad()
    def _fused(self, trainee: FusionTrainee) -> tuple[Floats32, Floats32]:
        def embed(given: Outputs) -> tuple[Tensor, Tensor]:
            outputs = trainee.of_outputs(given)
            return outputs.image, outputs.text

        return self._embedded(embed)

    def _embedded(self, embed: Callable[[Outputs], tuple[Tensor, Tensor]]) -> tuple[Floats32, Floats32]:
        parts = [embed(given) for given in self._given]
        image, text = (torch.cat(side).float().cpu().numpy() for side in zip(*parts, strict=True))
        return image, text

    def _recall(self, images: Floats32, texts: Floats32, mask: Mask) -> float:
        rows = np.flatnonzero(mask)
        return mean_recall(
            images[rows],
            texts[rows],
            image_keys=tuple(self._image_keys[row] for row in rows),
            text_keys=tuple(self._text_keys[row] for row in rows),
        )


def _pair(teacher: str, given: Outputs) -> tuple[Tensor, Tensor]:
    towers = given[teacher].towers
    (image, _), (text, _) = towers["image"], towers["text"]
    return image, text
