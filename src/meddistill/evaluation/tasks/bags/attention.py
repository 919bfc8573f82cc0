"""Learning which instances of a bag count, from the label of the bag alone."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from meddistill.arrays import Floats32
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.models.protocols import Advance
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig
from meddistill.evaluation.tasks.bags.gated import GatedAttention
from meddistill.evaluation.tasks.bags.labelled import BagScores, LabelledBags, class_weights
from meddistill.evaluation.tasks.classification.logistic import quality


def no_progress(epochs: int) -> None:
    """Progress that nobody sees."""


def fit_attention(
    train: LabelledBags,
    validation: LabelledBags | None,
    *,
    classes: int,
    seed: int,
    config: BagClassificationConfig,
    advance: Advance = no_progress,
) -> GatedAttention:
    """AdamW, one bag a step, cross-entropy; the learning rate falls by a cosine from epoch to epoch.

    With validation bags the epoch of the highest balanced accuracy on them (equal ones told apart by
    likelihood, then the earlier) is returned, without them the last one. `seed` decides initial weights,
    order, dropout and which instances of a large bag are seen. `advance` is called after every epoch.
    """
    random = np.random.default_rng(seed)
    width = train.features[0].shape[1]
    model = GatedAttention(width, hidden=config.hidden, classes=classes, random=random)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs)
    balanced = class_weights(train.truth, classes)
    best: tuple[tuple[float, float], dict[str, Any]] | None = None
    # One thread: the products are small, and sums then have one order.
    with one_thread():
        for _ in range(config.epochs):
            for number in random.permutation(len(train)):
                bag = _drawn(train.features[number], config.max_instances, random)
                kept = _kept((len(bag), config.hidden), config.dropout, random)
                truth = train.truth[number]
                logits, _attention = model(torch.from_numpy(bag), kept)
                loss = functional.cross_entropy(logits, torch.tensor(truth))
                optimizer.zero_grad()
                (loss * float(balanced[truth]) if config.balanced else loss).backward()
                optimizer.step()
            schedule.step()
            if validation is not None:
                score = quality(attend(model, validation.features).probabilities, validation.truth)
                if best is None or score > best[0]:
                    best = score, copy.deepcopy(model.state_dict())
            advance(1)
    if best is not None:
        model.load_state_dict(best[1])
    return model


@torch.no_grad()
def attend(model: GatedAttention, bags: Sequence[Floats32]) -> BagScores:
    """Class probabilities and attention of whole bags, one after the other, without dropout."""
    with one_thread():  # as in training
        outputs = [model(torch.from_numpy(bag)) for bag in bags]
    return BagScores(
        probabilities=torch.stack([logits for logits, _ in outputs]).double().softmax(dim=1).numpy(),
        attention=tuple(attention.numpy() for _, attention in outputs),
    )


def _drawn(bag: Floats32, most: int, random: np.random.Generator) -> Floats32:
    return bag if len(bag) <= most else bag[np.sort(random.choice(len(bag), most, replace=False))]


def _kept(size: tuple[int, int], dropout: float, random: np.random.Generator) -> Tensor | None:
    if not dropout:
        return None
    kept = random.random(size, dtype=np.float32) >= dropout
    return torch.from_numpy(kept.astype(np.float32) / np.float32(1 - dropout))
