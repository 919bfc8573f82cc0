"""The decoders that are trained on frozen patch tokens, and their training."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from meddistill.arrays import Floats32, Ints
from meddistill.evaluation.base.device import best_device
from meddistill.evaluation.tasks.segmentation.config import Decoder, SegmentationProbeConfig
from meddistill.progress import Advance

DETAIL: Final = 4  # cells of the training raster along a patch
_WIDTH: Final = 32
_SMOOTH: Final = 1.0  # cells; an empty mask has a soft Dice all the same
_RATES: Final[dict[Decoder, float]] = {"linear": 1e-2, "light": 2e-3}
_CHUNK: Final = 64


@dataclass(frozen=True, kw_only=True)
class TokenGrids:
    """Patch tokens `values` [n, rows x columns, d] on a `grid` (rows, columns)."""

    values: NDArray[np.float16]
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Marked share of the cells of the training raster and the part of them in the image, [n, rows, columns].

    The raster has DETAIL times the rows and columns of the grid of tokens.
    """

    shares: Floats32
    inside: Floats32


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained decoder with the standardisation of its tokens."""

    network: nn.Module
    centre: Tensor
    spread: Tensor

    @torch.inference_mode()
    def logits(self, tokens: TokenGrids) -> Floats32:
        """[n, rows, columns]: of the grid (`linear`), or of DETAIL times as many (`light`)."""
        self.network.eval()
        parts = [self.network(self.standardized(tokens, rows)) for rows in _chunks(np.arange(len(tokens)))]
        found: Floats32 = torch.cat(parts)[:, 0].cpu().numpy()
        return found

    def standardized(self, tokens: TokenGrids, rows: Ints) -> Tensor:
        """Tokens of these rows as [b, d, rows, columns], every channel by its training mean and SD."""
        values = torch.from_numpy(tokens.values[rows]).to(self.centre.device).float()
        values = (values - self.centre) / self.spread
        return values.transpose(1, 2).unflatten(2, tokens.grid)


def fit(
    train: tuple[TokenGrids, Targets],
    validation: tuple[TokenGrids, Targets] | None,
    config: SegmentationProbeConfig,
    *,
    seed: int,
    advance: Advance | None = None,
) -> Fitted:
    """Train a decoder; with `validation` the epoch with the highest mean Dice there, the first of equals.

    The linear one is the probe of DINOv2 (Oquab et al., arXiv 2304.07193, section 7.4): tokens standardised
    by channel, a 1x1 convolution, bilinear upsampling. Deviations: the standardisation is fixed by the
    training tokens instead of being a batch norm, the loss adds soft Dice to cross-entropy, and both are
    taken on the marked shares of cells a quarter of a patch wide, not on single pixels: maps that are
    bilinear between patches hardly tell these apart, and a step costs a fraction. AdamW under a cosine
    schedule, on the accelerator where there is one; equal seeds give equal numbers on one machine. `advance`
    is called after every epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _fit(train, validation, config, advance=advance)


def _fit(
    train: tuple[TokenGrids, Targets],
    validation: tuple[TokenGrids, Targets] | None,
    config: SegmentationProbeConfig,
    *,
    advance: Advance | None,
) -> Fitted:
    tokens, targets = train
    device = best_device()
    centre, spread = (each.to(device) for each in _moments(tokens))
    network = _network(config.decoder, tokens.values.shape[2], prior=_prior(targets)).to(device)
    fitted = Fitted(network=network, centre=centre, spread=spread)
    rate = config.learning_rate or _RATES[config.decoder]
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config.weight_decay)
    steps = config.epochs * math.ceil(len(tokens) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, kept = -1.0, _copy(network)
    for _ in range(config.epochs):
        network.train()
        order = torch.randperm(len(tokens)).numpy()
        for rows in np.array_split(order, math.ceil(len(order) / config.batch_size)):
            optimizer.zero_grad(set_to_none=True)
            shares, inside = (each.to(device) for each in _rows(targets, rows))
            loss = _loss(network(fitted.standardized(tokens, rows)), shares, inside)
            loss.backward()
            optimizer.step()
            schedule.step()
        score = math.inf if validation is None else _dice(fitted, *validation)
        if validation is None or score > best:
            best, kept = score, _copy(network)
        if advance is not None:
            advance(1)
    network.load_state_dict(kept)
    return fitted


def _network(decoder: Decoder, width: int, *, prior: float) -> nn.Module:
    """A decoder from [b, width, rows, columns] to [b, 1, ...]; it starts at the `prior` share everywhere."""
    last = nn.Conv2d(width if decoder == "linear" else _WIDTH, 1, 1)
    nn.init.constant_(last.bias, math.log(prior / (1 - prior)))  # type: ignore[arg-type]
    if decoder == "linear":
        return last
    wider = nn.Upsample(scale_factor=2, mode="bilinear")
    return nn.Sequential(
        nn.Conv2d(width, _WIDTH, 1),
        nn.GELU(),
        wider,
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.GELU(),
        wider,
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
        nn.GELU(),
        last,
    )


def _loss(logits: Tensor, shares: Tensor, inside: Tensor) -> Tensor:
    """Cross-entropy over the cells in the image, plus 1 - soft Dice, both averaged over images."""
    logits = _at_cells(logits, shares)
    entropy = functional.binary_cross_entropy_with_logits(logits, shares, weight=inside, reduction="none")
    entropy = entropy.sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp_min(1e-6)
    given = torch.sigmoid(logits) * inside
    both = (given * shares).sum(dim=(1, 2))
    marked = given.sum(dim=(1, 2)) + (shares * inside).sum(dim=(1, 2))
    return (entropy + 1 - (2 * both + _SMOOTH) / (marked + _SMOOTH)).mean()


@torch.inference_mode()
def _dice(fitted: Fitted, tokens: TokenGrids, targets: Targets) -> float:
    """Mean Dice of the cells that are more likely marked than not; 1 where nothing is and nothing should."""
    logits = torch.from_numpy(fitted.logits(tokens))[:, None]
    shares, inside = _rows(targets, np.arange(len(tokens)))
    given = (_at_cells(logits, shares) > 0) * inside
    both = (given * shares).sum(dim=(1, 2))
    marked = given.sum(dim=(1, 2)) + (shares * inside).sum(dim=(1, 2))
    return float(torch.where(marked > 0, 2 * both / marked.clamp_min(1e-6), 1.0).mean())


def _at_cells(logits: Tensor, shares: Tensor) -> Tensor:
    """Logits [b, 1, ...] on the training raster, [b, rows, columns]."""
    size = shares.shape[1:]
    if logits.shape[2:] != size:
        logits = functional.interpolate(logits, size=size, mode="bilinear")
    return logits[:, 0]


def _rows(targets: Targets, rows: Ints) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(targets.shares[rows]), torch.from_numpy(targets.inside[rows])


def _moments(tokens: TokenGrids) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [d] of all training tokens; 1 where a channel never varies."""
    count = tokens.values.shape[0] * tokens.values.shape[1]
    parts = [tokens.values[rows].astype(np.float64) for rows in _chunks(np.arange(len(tokens)))]
    mean = np.sum([part.sum(axis=(0, 1)) for part in parts], axis=0) / count
    squares = np.sum([np.square(part - mean).sum(axis=(0, 1)) for part in parts], axis=0) / count
    spread = np.sqrt(squares)
    spread[spread < 1e-6] = 1.0
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(spread.astype(np.float32))


def _prior(targets: Targets) -> float:
    share = float((targets.shares * targets.inside).sum() / max(1e-6, float(targets.inside.sum())))
    return min(max(share, 1e-3), 1 - 1e-3)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _chunks(rows: Ints) -> Iterator[Ints]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def stacked(pairs: Sequence[tuple[Floats32, Floats32]]) -> Targets:
    """Targets of many images from the shares and insides of each."""
    return Targets(
        shares=np.stack([share for share, _ in pairs]), inside=np.stack([inside for _, inside in pairs])
    )
