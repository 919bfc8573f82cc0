"""Fitting the head, and the towers where they are tuned, on questions with known answers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from meddistill.arrays import Flags, Floats, Ints
from meddistill.errors import NonFiniteError
from meddistill.evaluation.base.device import best_device
from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig
from meddistill.evaluation.tasks.vqa.head import AnswerHead
from meddistill.evaluation.tasks.vqa.inputs import Inputs
from meddistill.evaluation.tasks.vqa.questions import OUTSIDE
from meddistill.progress import Advance

_WARM_UP: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainingSplit:
    """Which rows teach, which choose the epoch, which are tested; and what is right.

    `targets` [N] are numbers of right answers, OUTSIDE where there is none in the set. `sets` [S, V] are the
    sets of answers and `set_of` [N] says which one a row's answer is chosen from.
    """

    learn: Ints
    choose: Ints
    test: Ints
    targets: Ints
    sets: Flags
    set_of: Ints


def answer_probabilities(
    inputs: Inputs,
    split: TrainingSplit,
    config: VqaClosedSetConfig,
    *,
    seed: int,
    advance: Advance | None = None,
) -> Floats:
    """Fit on `learn`, keep the epoch that answers `choose` best, answer `test`: [test, V].

    AdamW; the learning rate rises linearly over a tenth of the steps and then falls to zero, by a cosine or
    along a line (`schedule`). `advance` is called after every epoch. Equal accuracies on `choose` are told
    apart by the lower loss; without such rows the last epoch counts. Everything random comes from `seed`, and
    the process's own random state is left as it was. Raises NonFiniteError where the loss is not finite.
    """
    device = best_device()
    with _seeded(seed, device):
        answerer = _Answerer(inputs, split, config).to(device)
        _fit(answerer, split, config, order=np.random.default_rng(seed), advance=advance)
        return np.concatenate(list(answerer.answered(split.test, config.batch_size)))


@final
class _Answerer(nn.Module):
    """Towers or memory, and the head."""

    def __init__(self, inputs: Inputs, split: TrainingSplit, config: VqaClosedSetConfig) -> None:
        super().__init__()
        self.inputs = inputs
        self.split = split
        self.binary = config.loss == "binary_cross_entropy"
        with torch.no_grad():
            first = inputs(split.test[:1])
        self.head = AnswerHead(
            first.patches.shape[-1],
            first.tokens.shape[-1],
            answers=split.sets.shape[1],
            config=config,
        )
        self._device = first.patches.device

    def logits(self, rows: Ints) -> Tensor:
        """Logits [b, V]; minus infinity for answers of another set."""
        logits: Tensor = self.head(*self.inputs(rows))
        return logits.masked_fill(~self._allowed(rows), -math.inf)

    def loss(self, logits: Tensor, rows: Ints) -> Tensor:
        """Cross-entropy; or the mean binary cross-entropy over the answers that are allowed.

        Of one set of answers that mean is taken times their number, as METER and M3AE do; of several sets it
        is taken in each, over its rows and answers, and summed, as QCR does.
        """
        targets = torch.from_numpy(self.split.targets[rows]).to(self._device)
        if not self.binary:
            return functional.cross_entropy(logits, targets)
        allowed = self._allowed(rows)
        wanted = functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
        # A product of infinity and zero is no number.
        finite = logits.masked_fill(~allowed, 0.0)
        each = functional.binary_cross_entropy_with_logits(finite, wanted, reduction="none") * allowed
        means = each.sum(dim=1) / allowed.sum(dim=1)
        if len(self.split.sets) == 1:
            return means.mean() * logits.shape[1]
        set_of = torch.from_numpy(self.split.set_of[rows]).to(self._device)
        return torch.stack([means[set_of == number].mean() for number in set_of.unique()]).sum()

    def _allowed(self, rows: Ints) -> Tensor:
        """Which answers these rows are chosen from, [b, V]."""
        return torch.from_numpy(self.split.sets[self.split.set_of[rows]]).to(self._device)

    def answered(self, rows: Ints, size: int) -> Iterator[Floats]:
        """Probabilities of answers, a batch at a time."""
        self.eval()
        for start in range(0, len(rows), size):
            with torch.inference_mode():
                logits = self.logits(rows[start : start + size]).double()
                probabilities = logits.sigmoid() if self.binary else logits.softmax(dim=1)
            yield probabilities.cpu().numpy()

    def train(self, mode: bool = True) -> "_Answerer":  # noqa: FBT001, FBT002 torch's signature
        """Statistics of normalisation over batches stay those of the towers: batches here are small."""
        super().train(mode)
        for part in self.inputs.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self


def _fit(
    answerer: _Answerer,
    split: TrainingSplit,
    config: VqaClosedSetConfig,
    *,
    order: np.random.Generator,
    advance: Advance | None,
) -> None:
    learn = split.learn[split.targets[split.learn] != OUTSIDE]
    steps = -(-len(learn) // config.batch_size)
    betas = (0.9, config.second_moment)
    optimizer = torch.optim.AdamW(_groups(answerer, config), betas=betas, weight_decay=config.weight_decay)
    schedule = _WarmupSchedule(steps * config.epochs, decay=config.schedule)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    best: tuple[tuple[float, float], dict[str, Any]] | None = None
    for _ in range(config.epochs):
        answerer.train()
        for rows in np.array_split(order.permutation(learn), steps):
            loss = answerer.loss(answerer.logits(rows), rows)
            if not bool(torch.isfinite(loss)):
                msg = "The loss of question answering must be finite; it is not. Lower `learning_rate`."
                raise NonFiniteError(msg)
            optimizer.zero_grad()
            loss.backward()
            if config.clip_norm is not None:
                nn.utils.clip_grad_norm_(answerer.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
        if len(split.choose):
            score = _validate(answerer, split, config)
            if best is None or score > best[0]:
                best = (score, {name: each.clone() for name, each in answerer.state_dict().items()})
        if advance is not None:
            advance(1)
    if best is not None:
        answerer.load_state_dict(best[1])


def _groups(answerer: _Answerer, config: VqaClosedSetConfig) -> list[dict[str, Any]]:
    groups = [{"params": list(answerer.head.parameters()), "lr": config.learning_rate}]
    towers = [each for each in answerer.inputs.parameters() if each.requires_grad]
    return [*groups, {"params": towers, "lr": config.tower_learning_rate}] if towers else groups


@dataclass(frozen=True)
class _WarmupSchedule:
    """Factor of the learning rate at a step."""

    steps: int
    decay: Literal["cosine", "linear"] = "cosine"

    def __call__(self, step: int) -> float:
        warm_up = max(1, round(_WARM_UP * self.steps))
        if step < warm_up:
            return (step + 1) / warm_up
        gone = (step - warm_up) / max(1, self.steps - warm_up)
        return 1 - gone if self.decay == "linear" else 0.5 * (1 + math.cos(math.pi * gone))


def _validate(answerer: _Answerer, split: TrainingSplit, config: VqaClosedSetConfig) -> tuple[float, float]:
    """Accuracy on the rows that choose, and the log probability of their answers."""
    parts = list(answerer.answered(split.choose, config.batch_size))
    scores, targets = np.concatenate(parts), split.targets[split.choose]
    inside = targets != OUTSIDE
    likely = scores[inside, targets[inside]]
    right = float((scores.argmax(axis=1) == targets).mean())
    return right, float(np.log(np.maximum(likely, 1e-12)).mean()) if inside.any() else 0.0


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
