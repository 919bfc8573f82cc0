"""Gated attention over the instances of a bag, learnt from the label of the bag alone."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from meddistill.evaluation.bags.config import BagClassificationConfig
from meddistill.evaluation.bags.labelled import BagScores, LabelledBags, class_weights, judge
from meddistill.evaluation.predict import Floats


@final
class GatedAttention(nn.Module):
    """Attention pooling with gates (Ilse, Tomczak & Welling, ICML 2018, equation 9), then a linear layer.

    a_k = exp(w·(tanh(V h_k) ⊙ sigm(U h_k))) / Σ_j exp(w·(tanh(V h_j) ⊙ sigm(U h_j))), z = Σ_k a_k h_k,
    logits = W z + b. Deviations, both common in later code: V and U have biases; hidden units are dropped
    out in training.
    """

    def __init__(self, width: int, classes: int, *, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.content = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, bag: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [C] and attention [n] of one bag [n, d]."""
        hidden = self.dropout(torch.tanh(self.content(bag)) * torch.sigmoid(self.gate(bag)))
        attention = torch.softmax(self.score(hidden).squeeze(1), dim=0)
        return self.classifier(attention @ bag), attention


def fit_attention(
    train: LabelledBags,
    validation: LabelledBags | None,
    *,
    classes: int,
    seed: int,
    config: BagClassificationConfig,
) -> GatedAttention:
    """AdamW with a cosine from `learning_rate` to 0, one bag a step, cross-entropy.

    With validation bags the epoch of the highest balanced accuracy on them (equal ones told apart by
    likelihood, then the earlier) is returned, without them the last one. `seed` decides initial weights,
    order, dropout and which instances of a large bag are seen; the caller's generators are left alone.
    """
    weights = torch.from_numpy(class_weights(train.truth, classes)).float()
    if not config.balanced:
        weights = torch.ones(classes)
    bags = [torch.from_numpy(bag) for bag in train.features]
    random = np.random.default_rng(seed)
    # One thread: the products are small, and sums then have one order.
    with torch.random.fork_rng(devices=[]), threadpool_limits(1):
        torch.manual_seed(seed)
        model = GatedAttention(bags[0].shape[1], classes, hidden=config.hidden, dropout=config.dropout)
        optimiser = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.epochs)
        best: tuple[tuple[float, float], dict[str, Tensor]] | None = None
        for _ in range(config.epochs):
            model.train()
            for number in random.permutation(len(bags)):
                bag, truth = _drawn(bags[number], config.most_instances, random), int(train.truth[number])
                logits, _attention = model(bag)
                # By hand: the mean of a batch of one divides by its class weight and so undoes it.
                loss = -weights[truth] * functional.log_softmax(logits, dim=0)[truth]
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            schedule.step()
            if validation is not None:
                score = judge(attend(model, validation.features).probabilities, validation.truth)
                if best is None or score > best[0]:
                    best = score, {name: each.clone() for name, each in model.state_dict().items()}
    if best is not None:
        model.load_state_dict(best[1])
    return model.eval()


def attend(model: GatedAttention, bags: Sequence[Floats]) -> BagScores:
    """Class probabilities and attention, whole bags one after the other, without dropout."""
    model.eval()
    probabilities, attention = [], []
    with torch.inference_mode():
        for bag in bags:
            logits, weights = model(torch.from_numpy(bag))
            probabilities.append(torch.softmax(logits.double(), dim=0).numpy())
            attention.append(weights.numpy())
    return BagScores(probabilities=np.stack(probabilities), attention=tuple(attention))


def _drawn(bag: Tensor, most: int, random: np.random.Generator) -> Tensor:
    return bag if len(bag) <= most else bag[np.sort(random.choice(len(bag), most, replace=False))]
