"""Learning which instances of a bag count, from the label of the bag alone."""

import math
from collections.abc import Sequence

import numpy as np

from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.models.protocols import Advance, Floats
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.gated import AdamW, GatedAttention, Shape
from meddistill.evaluation.tasks.bags.labelled import BagScores, LabelledBags, class_weights, judge


def untold(epochs: int) -> None:
    """Progress that nobody sees."""


def fit_attention(
    train: LabelledBags,
    validation: LabelledBags | None,
    *,
    classes: int,
    seed: int,
    config: BagClassificationConfig,
    advance: Advance = untold,
) -> GatedAttention:
    """AdamW, one bag a step, cross-entropy; the learning rate falls by a cosine from epoch to epoch.

    With validation bags the epoch of the highest balanced accuracy on them (equal ones told apart by
    likelihood, then the earlier) is returned, without them the last one. `seed` decides initial weights,
    order, dropout and which instances of a large bag are seen. `advance` is called after every epoch.
    """
    random = np.random.default_rng(seed)
    shape = Shape(width=train.features[0].shape[1], hidden=config.hidden, classes=classes)
    model = GatedAttention(shape, shape.drawn(random))
    optimizer = AdamW(model.flat, weight_decay=config.weight_decay)
    balanced = class_weights(train.truth, classes)
    best: tuple[tuple[float, float], Floats] | None = None
    # One thread: the products are small, and sums then have one order.
    with one_thread():
        for epoch in range(config.epochs):
            rate = config.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
            for number in random.permutation(len(train)):
                bag, truth = (
                    _drawn(train.features[number], config.most_instances, random),
                    train.truth[number],
                )
                weight = float(balanced[truth]) if config.balanced else 1.0
                kept = _kept((len(bag), config.hidden), config.dropout, random)
                _, gradient = model.gradient(bag, int(truth), weight=weight, kept=kept)
                optimizer.step(gradient, rate)
            if validation is not None:
                score = judge(attend(model, validation.features).probabilities, validation.truth)
                if best is None or score > best[0]:
                    best = score, model.flat.copy()
            advance(1)
    return model if best is None else GatedAttention(shape, best[1])


def attend(model: GatedAttention, bags: Sequence[Floats]) -> BagScores:
    """Class probabilities and attention of whole bags, one after the other, without dropout."""
    with one_thread():  # as in training
        found = [model(bag) for bag in bags]
    probabilities = np.stack([each for each, _ in found]).astype(np.float64)
    return BagScores(
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        attention=tuple(attention for _, attention in found),
    )


def _drawn(bag: Floats, most: int, random: np.random.Generator) -> Floats:
    return bag if len(bag) <= most else bag[np.sort(random.choice(len(bag), most, replace=False))]


def _kept(size: tuple[int, int], dropout: float, random: np.random.Generator) -> Floats | None:
    if not dropout:
        return None
    return (random.random(size, dtype=np.float32) >= dropout).astype(np.float32) / np.float32(1 - dropout)
