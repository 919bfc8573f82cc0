"""MMKD-CLIP's maps: the first layers of an autoencoder that all teachers share."""

import math
from collections.abc import Mapping
from typing import cast, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.features.projections.config import LinearAutoencoderConfig
from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pairs import has_row, unit_rows
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.progress import Progress
from meddistill.signals import TOWERS, Signal


def autoencoder_maps(
    config: LinearAutoencoderConfig,
    store: FeatureStore,
    pairs: Mapping[str, Indices],
    *,
    dim: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, LinearMap]:
    """z = W_t x̂ + b_t for each teacher t, trained to let x̂ be rebuilt from it (MultiCLIP_AE of MMKD-CLIP).

        x̃_tm = V_t g_m(W_t (x̂_tm + σ ε) + b_t) + c_t,    L = mean over teachers t and towers m of
        mean((x̃_tm - x̂_tm)²).

    x̂ is a teacher's embedding at unit length, as MMKD-CLIP stores it; ε is standard normal; W_t, b_t serve
    images and texts alike; g_image and g_text, each shared by all teachers, are dim → hidden (ReLU, dropout)
    → dim. Only W_t and b_t are kept, as there. Because g is shared, one teacher more or less changes the
    others' maps too.

    Not given by the paper and chosen here: where the noise enters (the features), one hidden layer in g,
    Adam with a cosine to 0, equal weights of teachers. Rows are drawn uniformly, with replacement, from each
    teacher's `pairs` `[n, 2]` (rows of the store's images and texts), one at least; of an image its whole
    view. A row without a caption (-1) has a part in the images' error alone.
    """
    samples = {name: _Samples(store, name, each) for name, each in pairs.items()}
    generator = np.random.default_rng(config.seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        model = _Autoencoder({name: each.dim for name, each in samples.items()}, config, dim=dim).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        with progress.track("Fitting the projection", config.steps, unit="steps") as advance:
            for step in range(config.steps):
                rate = config.learning_rate * (1 + math.cos(math.pi * step / config.steps)) / 2
                for group in optimizer.param_groups:
                    group["lr"] = rate
                errors = [
                    error
                    for name, each in samples.items()
                    for error in model.errors(name, each.draw(generator, config.batch_size, device))
                ]
                optimizer.zero_grad(set_to_none=True)
                torch.stack(errors).mean().backward()
                optimizer.step()
                advance(1)
    return {name: model.map_of(name) for name in pairs}


@final
class _Samples:
    """A teacher's pairs of image and caption, at unit length."""

    def __init__(self, store: FeatureStore, teacher: str, pairs: Indices) -> None:
        self._store = store
        self._teacher = teacher
        outputs = store.outputs(teacher)
        self._towers = [tower for tower in TOWERS if tower in outputs]
        self.dim = outputs[self._towers[0]].shape[-1]
        self._pairs = pairs

    def draw(
        self, generator: np.random.Generator, size: int, device: torch.device
    ) -> dict[Signal, Float[Tensor, "size teacher_dim"]]:
        pairs = self._pairs[generator.integers(len(self._pairs), size=size)]
        there = {tower: pairs[has_row(pairs, tower)] for tower in self._towers}
        return {
            tower: unit_rows(self._store, self._teacher, tower, rows, device=device)
            for tower, rows in there.items()
            if len(rows)
        }


@final
class _Autoencoder(nn.Module):
    def __init__(self, dims: Mapping[str, int], config: LinearAutoencoderConfig, *, dim: int) -> None:
        super().__init__()
        self.spread = config.noise
        self.numbers = {name: number for number, name in enumerate(dims)}
        self.into = nn.ModuleList([nn.Linear(each, dim) for each in dims.values()])
        self.back = nn.ModuleList([nn.Linear(dim, each) for each in dims.values()])
        self.shared = nn.ModuleDict(
            {
                tower: nn.Sequential(
                    nn.Linear(dim, config.hidden_dim),
                    nn.ReLU(),
                    nn.Dropout(config.dropout),
                    nn.Linear(config.hidden_dim, dim),
                )
                for tower in ("image", "text")
            }
        )

    def errors(self, teacher: str, inputs: Mapping[Signal, Tensor]) -> list[Float[Tensor, ""]]:
        """The mean squared error of each tower."""
        number = self.numbers[teacher]
        losses = []
        for tower, values in inputs.items():
            noisy = values + self.spread * torch.randn_like(values)
            rebuilt = self.back[number](self.shared[tower](self.into[number](noisy)))
            losses.append(functional.mse_loss(rebuilt, values))
        return losses

    def map_of(self, teacher: str) -> LinearMap:
        linear = cast("nn.Linear", self.into[self.numbers[teacher]])
        return LinearMap(
            weight=linear.weight.detach().cpu().numpy().copy(),
            bias=linear.bias.detach().cpu().numpy().copy(),
            unit_inputs=True,
        )
