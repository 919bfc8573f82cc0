"""Retrieval among stored pairs, by the same ranks and rates as the retrieval tasks of a suite."""

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats32
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.retrieval.metrics import DIRECTIONS, MAIN, rank_metrics
from meddistill.evaluation.tasks.retrieval.task import Gallery, best_ranks

Keys = tuple[str, ...]


def mean_recall(images: Floats32, texts: Floats32, *, image_keys: Keys, text_keys: Keys) -> float:
    """Mean of R@1, R@5 and R@10, image to text and back, in [0, 1]: a sixth of the recall sum.

    `images` and `texts` `[n, dim]` are embeddings of pairs, not normalised; rows of equal keys are one image
    or one text, and every text that stands beside an image is a right answer to it.
    """
    gallery = Gallery.of(image_keys, text_keys)
    sides = normalized(images[gallery.first_image]), normalized(texts[gallery.first_text])
    ranks = [best_ranks(sides[way], sides[1 - way], gallery.positives(way)) for way in range(len(DIRECTIONS))]
    directions: NDArray[np.int64] = np.repeat(np.arange(len(ranks)), [len(each) for each in ranks])
    count = len(directions)
    metrics = rank_metrics(
        directions=directions,
        ranks=np.concatenate(ranks),
        shares=np.ones(count),
        weights=np.ones((1, count), dtype=np.float32),
        groups=np.arange(count),
    )
    return float(metrics[MAIN][0])
