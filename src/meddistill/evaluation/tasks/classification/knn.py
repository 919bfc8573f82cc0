"""k nearest neighbours: the probe that needs no training."""

from typing import final

import numpy as np

from meddistill.arrays import Floats, Floats32
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.config import KnnConfig
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.classification.task import Block, ProbeTask

_CHUNK = 512
_TIE = 1e-6  # cosines closer than float32 can tell apart over some hundred products


@final
class Knn(ProbeTask[KnnConfig]):
    """The share of each class among the k most similar training images (cosine, one vote each).

    Training images that tie for the last places share these places equally, so that the order of the table
    decides nothing. With fewer than k training images all of them vote. Votes rank the classes and are no
    probabilities (no vote is no impossibility), so that their calibration is not measured.
    """

    probabilities = False

    def predict(self, embeddings: Embeddings) -> ClassPredictions:
        """Votes of every class, summing to one."""
        train = self.parts["train"]
        truth = self.truth(train)
        gallery = normalized(embeddings.images(train.samples, train.keys))
        queries = normalized(embeddings.images(self.tested.samples, self.tested.keys))
        shares = votes(queries, gallery, np.eye(len(self.classes))[truth], self.config.k)
        return self._predictions([Block(part=self.tested, scores=shares)])


def votes(queries: Floats32, gallery: Floats32, one_hot: Floats, k: int) -> Floats:
    """Shares of the classes, [n, C], among the `k` rows of `gallery` nearest to each query."""
    k = min(k, len(gallery))
    shares = []
    for start in range(0, len(queries), _CHUNK):
        similarity = queries[start : start + _CHUNK] @ gallery.T
        last = np.partition(similarity, -k, axis=1)[:, [-k]]
        closer = similarity > last + _TIE
        level = (similarity >= last - _TIE) & ~closer
        places = (k - closer.sum(axis=1, keepdims=True)) / level.sum(axis=1, keepdims=True)
        shares.append((closer + level * places) @ one_hot / k)
    return np.concatenate(shares)
