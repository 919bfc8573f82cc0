"""Embeddings of several teachers to one: gates or attention over them, missing ones left out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.data.draws import derive_seed
from meddistill.errors import ConfigError
from meddistill.fusion.config import FusionConfig, NetworkKind
from meddistill.methods.base import TeacherSpace
from meddistill.records import TeacherOutputs
from meddistill.signals import TOWERS, Tower

_MOST_HEADS = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """One embedding that goes in: a teacher's tower and its dim."""

    teacher: str
    tower: Tower
    dim: int


class _Merge(nn.Module):
    """What makes one vector of the sources' tokens: `tokens` `[batch, sources, dim]`, zeros where missing."""

    def __init__(self, own: Sequence[bool]) -> None:
        super().__init__()
        self.own = tuple(own)

    def present(self, there: Bool[Tensor, "batch sources"]) -> Bool[Tensor, " batch"]:
        """The rows of which one source of the own tower is there."""
        own = [column for column, mine in zip(there.unbind(dim=1), self.own, strict=True) if mine]
        return torch.stack(own).any(dim=0)


@final
class GatedMerge(_Merge):
    """y = Σ_m g_m·z_m, g = softmax over the sources that are there of W₂·GELU(W₁·[z; there])."""

    def __init__(self, own: Sequence[bool], *, dim: int, hidden: int) -> None:
        super().__init__(own)
        count = len(own)
        self.gate = nn.Sequential(nn.Linear(count * (dim + 1), hidden), nn.GELU(), nn.Linear(hidden, count))

    def forward(
        self, tokens: Float[Tensor, "batch sources dim"], there: Bool[Tensor, "batch sources"]
    ) -> Float[Tensor, "batch dim"]:
        """Zeros for rows without any source."""
        return (self.weights(tokens, there)[..., None] * tokens).sum(dim=1)

    def weights(
        self, tokens: Float[Tensor, "batch sources dim"], there: Bool[Tensor, "batch sources"]
    ) -> Float[Tensor, "batch sources"]:
        """The gates: 0 for a source that is missing; the others of a row sum to 1."""
        seen = torch.cat([tokens.flatten(1), there.to(tokens.dtype)], dim=1)
        # Not -inf: a row without any source would become NaN, and so would the gradient of all others.
        scores = self.gate(seen)
        scores = scores.masked_fill(~there, torch.finfo(scores.dtype).min)
        return functional.softmax(scores, dim=1) * there


@final
class AttentiveMerge(_Merge):
    """The own tower's tokens attend to all that are there, pass an MLP, and their mean goes out.

    q = z + A(LN z), y = mean of q + W₂·GELU(W₁·LN q) over the own tokens that are there; A is attention with
    heads, over keys and values of all sources. Each source has a vector of its own, added to its token.
    """

    def __init__(self, own: Sequence[bool], *, dim: int, hidden: int) -> None:
        super().__init__(own)
        self.heads = math.gcd(_MOST_HEADS, dim)
        self.names = nn.Parameter(torch.randn(len(own), dim) / math.sqrt(dim))
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.register_buffer("mine", torch.tensor(self.own), persistent=False)

    def forward(
        self, tokens: Float[Tensor, "batch sources dim"], there: Bool[Tensor, "batch sources"]
    ) -> Float[Tensor, "batch dim"]:
        """Zeros for rows of which no source of the own tower is there."""
        mine = cast("Tensor", self.mine)
        named = (tokens + self.names) * there[..., None]
        read = self.before(named)
        queries, asked = read[:, mine], there[:, mine]
        # A row without any source attends to all of its zeros: a softmax over nothing would be NaN.
        shown = there | ~there.any(dim=1, keepdim=True)
        mixed = functional.scaled_dot_product_attention(
            self._by_head(self.query(queries)),
            self._by_head(self.key(read)),
            self._by_head(self.value(read)),
            attn_mask=shown[:, None, None, :],
        )
        attended = named[:, mine] + self.out(mixed.transpose(1, 2).flatten(2))
        attended = (attended + self.mlp(self.after(attended))) * asked[..., None]
        return attended.sum(dim=1) / asked.sum(dim=1, keepdim=True).clamp_min(1)

    def _by_head(self, rows: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch heads tokens part"]:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


@final
class FusedTower(nn.Module):
    """One embedding of a row from those of its sources.

    z_m = P_m·x_m/|x_m|₂ of the sources that are there, merged to y, then y + W₂·GELU(W₁·LN y), with W₂ = 0 at
    first: the network begins as a weighted mean of linear maps.
    """

    def __init__(
        self, sources: Sequence[Source], *, tower: Tower, kind: NetworkKind, dim: int, hidden: int
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.maps = nn.ModuleList(nn.Linear(source.dim, dim) for source in sources)
        own = [source.tower == tower for source in sources]
        merge = GatedMerge if kind == "gated_mlp" else AttentiveMerge
        self.merge = merge(own, dim=dim, hidden=hidden)
        self.refine = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )
        last = cast("nn.Linear", self.refine[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, outputs: Mapping[str, TeacherOutputs]) -> Float[Tensor, "batch dim"]:
        """Fused embeddings, not normalised; zeros where no source of the tower is there."""
        embedded = [_embedding(outputs, source) for source in self.sources]
        there = torch.stack([available for _, available in embedded], dim=1)
        # `where`: what stands in place of a missing row may be anything, NaN too.
        inputs = [
            functional.normalize(torch.where(present[:, None], rows, 0.0), dim=-1)
            for rows, present in embedded
        ]
        tokens = torch.stack([each(rows) for each, rows in zip(self.maps, inputs, strict=True)], dim=1)
        merged = self.merge(tokens * there[..., None], there)
        fused: Tensor = merged + self.refine(merged)
        return torch.where(self.merge.present(there)[:, None], fused, 0.0)


@final
class FusionNetwork(nn.Module):
    """The fused image and text embedding of a row, from its teachers' (AMMKD's fusion network).

    `within`: a tower sees the sources of its own modality, as the MLP of a fused teacher does. `across`: it
    sees those of both, so that an image attends to its own caption and a caption to its own image, as in the
    single-stream fusion of MCAD (arXiv 2310.19654). AMMKD (arXiv 2509.00039) names the network and gives
    none of its layers: these are a reconstruction.
    """

    def __init__(self, config: FusionConfig, *, teachers: Mapping[str, TeacherSpace], seed: int) -> None:
        """Weights depend on `seed` alone. Raises ConfigError where the teachers give nothing to fuse."""
        super().__init__()
        ConfigError.raise_any("method fusion", unfusable(teachers))
        self.config = config
        self.teachers = tuple(teachers)
        seen = {tower: _sources(teachers, TOWERS if config.by_pair else (tower,)) for tower in TOWERS}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("fusion", seed))
            towers: dict[str, nn.Module] = {
                tower: FusedTower(
                    sources, tower=tower, kind=config.network, dim=config.dim, hidden=config.hidden
                )
                for tower, sources in seen.items()
            }
        self.towers = nn.ModuleDict(towers)

    def fused(self, tower: Tower, outputs: Mapping[str, TeacherOutputs]) -> Float[Tensor, "batch dim"]:
        """The fused embeddings of one modality; within a modality `outputs` of that one are enough."""
        found: Tensor = self.towers[tower](outputs)
        return found


def unfusable(teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that teachers to be fused lack."""
    lines = []
    if len(teachers) < 2:
        lines.append(
            f"`teachers` must be two at least to be fused; got {', '.join(teachers) or 'none'}. Name "
            "another, or leave the stage out."
        )
    lines += [
        f"`teachers` must have one at least that embeds {tower}s; got none among "
        f"{', '.join(teachers)}. Add one, or leave the stage out."
        for tower in TOWERS
        if teachers and not any(tower in space.towers for space in teachers.values())
    ]
    return lines


def _sources(teachers: Mapping[str, TeacherSpace], towers: Sequence[Tower]) -> list[Source]:
    return [
        Source(teacher=name, tower=tower, dim=space.dims[tower])
        for name, space in teachers.items()
        for tower in towers
        if tower in space.dims
    ]


def _embedding(
    outputs: Mapping[str, TeacherOutputs], source: Source
) -> tuple[Float[Tensor, "batch dim"], Bool[Tensor, " batch"]]:
    """A source's rows, and which are there; none are of a tower that these outputs lack."""
    given = outputs[source.teacher]
    if source.tower in given.towers:
        return given.towers[source.tower]
    other, _ = next(iter(given.towers.values()))
    return other.new_zeros(len(other), source.dim), other.new_zeros(len(other), dtype=torch.bool)
