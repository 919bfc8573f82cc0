"""Zero-shot classification by prompt ensembles."""

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from meddistill.arrays import Floats, Floats32
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig
from meddistill.evaluation.tasks.classification.predictions import BARE, ClassPredictions
from meddistill.evaluation.tasks.classification.task import Block, ClassificationTask

# For text towers that bring no scale of their own: the bound that CLIP trains against.
DEFAULT_LOGIT_SCALE = 100.0


@final
class ZeroShot(ClassificationTask[ZeroShotConfig]):
    """p(class | image) = softmax over classes of (logit scale x cosine(image, class vector)).

    A class vector is the normalised mean of its normalised prompt embeddings, as in CLIP and in
    `open_clip.build_zero_shot_classifier`. The logit scale is the model's own: macro AUC and the teacher mean
    depend on it (balanced accuracy, accuracy and F1 of one model do not), and bare cosines (scale 1) would
    not be what the model was trained to say.

    UniMed-CLIP and MMKD-CLIP report macro AUC from a softmax of bare cosines. That one number is told beside
    the others, as the setting "bare cosines", for comparison with theirs; of two classes both are the same.

    A validation table gives one more number, the temperature by which the logits are divided (`calibration`):
    it changes how sure the model is and never which class it chooses, so that balanced accuracy, accuracy and
    F1 stay as they are. Of two classes AUC stays too; of more it may change, for a class's probabilities
    are then compared between rows whose other classes share differently.

    CheXpert-5x200 (Huang et al., "GLoRIA", 2021) is this task with its five findings as classes.
    """

    needs_text = True
    probabilities = True

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that have prompts."""
        return tuple(self.config.prompts())

    def predict(self, embeddings: Embeddings) -> ClassPredictions:
        """Class probabilities of every row."""
        vectors = class_vectors(embeddings, self.config.prompts())
        scale = embeddings.model.logit_scale or DEFAULT_LOGIT_SCALE
        tested = _cosines(embeddings, vectors, self.tested)
        blocks = [
            Block(part=self.tested, scores=softmax(scale * tested)),
            Block(part=self.tested, scores=softmax(tested), setting=BARE),
        ]
        if "validation" in self.parts:
            known = _cosines(embeddings, vectors, self.parts["validation"])
            blocks.append(self._validated(softmax(scale * known)))
        return self._predictions(blocks)

    def facts(self) -> dict[str, Any]:
        """Counts of classes, and which prompts were used."""
        return {**super().facts(), "prompts_sha256": self.config.prompts_sha256()}


def _cosines(embeddings: Embeddings, vectors: Floats32, part: EvalSplit) -> Floats32:
    cosines: Floats32 = normalized(embeddings.images(part.samples, part.keys)) @ vectors.T
    return cosines


def class_vectors(embeddings: Embeddings, prompts: Mapping[str, tuple[str, ...]]) -> Floats32:
    """One vector a class, [C, d]: normalise each prompt, mean over the class, normalise."""
    flat = [prompt for each in prompts.values() for prompt in each]
    vectors = normalized(embeddings.texts(flat))
    ends = np.cumsum([len(each) for each in prompts.values()])[:-1]
    return normalized(np.stack([part.mean(axis=0) for part in np.split(vectors, ends)]))


def softmax(logits: Floats32) -> Floats:
    """Softmax over the last axis in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
