"""Zero-shot evaluation of several labels by pairs of prompts."""

from typing import Any, final

import numpy as np

from meddistill.arrays import Floats, Floats32
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.multilabel import MultilabelTask
from meddistill.evaluation.tasks.classification.multilabel_config import ZeroShotMultilabelConfig
from meddistill.evaluation.tasks.classification.task import Block
from meddistill.evaluation.tasks.classification.zero_shot import class_vectors


@final
class ZeroShotMultilabel(MultilabelTask[ZeroShotMultilabelConfig]):
    """p(label | image) = e^(s⁺/T) / (e^(s⁺/T) + e^(s⁻/T)), s the cosines with two vectors.

    One vector stands for the presence of the label, one for its absence, as in CheXzero (Tiu et al.,
    "Expert-level detection of pathologies from unannotated chest X-ray images via self-supervised learning",
    2022): raw cosines, no logit scale, T = 1. p rises with s⁺ - s⁻ alone, so that the AUC of one model
    depends on no temperature; the teacher mean, a mean of probabilities, does. A vector is the normalised
    mean of its normalised prompts, as in `ZeroShot`. The main metric is the unweighted mean of the labels'
    AUCs.
    """

    needs_text = True
    probabilities = False  # bare cosines rank, and say little about how sure a model is

    def predict(self, embeddings: Embeddings) -> LabelPredictions:
        """Probability of every label for every row."""
        pairs = self.config.pairs()
        present, absent = (
            class_vectors(embeddings, {label: pair[side] for label, pair in pairs.items()}) for side in (0, 1)
        )
        vectors = (present, absent)
        blocks = [Block(part=self.tested, scores=self._scores(embeddings, vectors, self.tested))]
        if "validation" in self.parts:
            blocks.append(self._validated(self._scores(embeddings, vectors, self.parts["validation"])))
        return self._predictions(blocks)

    def facts(self) -> dict[str, Any]:
        """Counts of labels, and which prompts were used."""
        return {**super().facts(), "prompts_sha256": self.config.prompts_sha256()}

    def _scores(self, embeddings: Embeddings, vectors: tuple[Floats32, Floats32], part: EvalSplit) -> Floats:
        images = normalized(embeddings.images(part.samples, part.keys)).astype(np.float64)
        present, absent = (images @ side.T.astype(np.float64) for side in vectors)
        probabilities: Floats = 1 / (1 + np.exp((absent - present) / self.config.temperature))
        return probabilities
