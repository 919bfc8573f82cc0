"""Gated attention over the instances of a bag."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init


class GatedAttention(nn.Module):
    """Attention pooling with gates (Ilse, Tomczak & Welling, ICML 2018, equation 9), then a linear layer.

    a_k = exp(w·(tanh(V h_k) ⊙ sigm(U h_k))) / Σ_j exp(w·(tanh(V h_j) ⊙ sigm(U h_j))), z = Σ_k a_k h_k,
    logits = W z + b. Deviations, both common in later code: V and U have biases; hidden units are dropped
    out in training.

    V and U begin uniform in ±1/√d, all others at 0. Deviation from common code, which draws all of them:
    training begins with the mean of a bag and an undecided classifier, and attention cannot lock on
    instances that a random classifier happens to like, from where it hardly returns.
    """

    def __init__(self, width: int, *, hidden: int, classes: int, random: np.random.Generator) -> None:
        super().__init__()
        # Not initialised by torch, which would draw from the generator that all share.
        self.content, self.gate = (skip_init(nn.Linear, width, hidden) for _ in range(2))
        self.score = skip_init(nn.Linear, hidden, 1, bias=False)
        self.classifier = skip_init(nn.Linear, width, classes)
        bound = 1 / math.sqrt(width)
        with torch.no_grad():
            for drawn in (*self.content.parameters(), *self.gate.parameters()):
                drawn.copy_(torch.from_numpy(random.uniform(-bound, bound, tuple(drawn.shape))))
            for zero in (*self.score.parameters(), *self.classifier.parameters()):
                zero.zero_()

    def forward(self, bag: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [C] and attention [n] of one bag [n, d].

        `kept` [n, h] multiplies the hidden units: 0 where one is dropped, else 1 / (share that is kept).
        """
        hidden = torch.tanh(self.content(bag)) * torch.sigmoid(self.gate(bag))
        hidden = hidden if kept is None else hidden * kept
        attention = torch.softmax(self.score(hidden)[:, 0], dim=0)
        return self.classifier(attention @ bag), attention
