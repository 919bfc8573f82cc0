"""The principal components of all teachers side by side: maps into one space that they share."""

from collections.abc import Mapping
from typing import Final, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from meddistill.features.projections.config import JointPCAConfig
from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pairs import has_row, refuse_idle, unit_rows
from meddistill.features.projections.pooled import with_signs
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.progress import Progress
from meddistill.signals import TOWERS, Signal

_CHUNK: Final = 4096


def joint_pca_maps(
    config: JointPCAConfig,
    store: FeatureStore,
    pairs: Mapping[str, Indices],
    *,
    dim: int,
    device: torch.device,
    progress: Progress,
) -> dict[str, LinearMap]:
    """y_t = W_t x̂_t for each teacher t, such that the y_t of one row lie in one space and may be summed.

    With A_i the n_i teachers that row i may ask, x̂_ti their embeddings at unit length, for each tower

        z_i = [x̂_ti / √n_i for t in A_i, 0 for the others],
        S = ½ E_images[z zᵀ] + ½ E_texts[z zᵀ] = V diag(e) Vᵀ,    W_t = (V_k's rows of t)ᵀ,

    k = `dim`. |z_i| = 1, and z_i·z_j is the mean of the cosines of rows that ask the same teachers: what an
    ensemble of them sees. V_k keeps as much of these products as k channels can (Eckart and Young 1936), and
    Σ_t W_t x̂_ti / √n_i is z_i in them: the target of `methods.ensemble`. The spaces of `pca` and
    `linear_autoencoder` have nothing in common from one teacher to the next and cannot be summed. Nothing is
    centred, or products would no longer be cosines.

    This is principal component analysis of concatenated blocks, each weighted alike (consensus PCA,
    Westerhuis et al. 1998; without the centring), with missing blocks at zero. It is not part of MMKD-CLIP.

    `pairs` `[n, 2]` are rows of the store's images and texts (-1 without a caption), by teacher; of more than
    `config.rows` different ones, that many are drawn. Each expectation runs over those for which a teacher
    is used in that tower. Beyond the teachers' channels taken together y is zero.

    Raises StoreError for a teacher without pairs among these.
    """
    codes, first = np.unique(np.concatenate([_codes(each) for each in pairs.values()]), return_index=True)
    rows = np.concatenate([*pairs.values()])[first]
    if len(rows) > config.rows:
        drawn = np.sort(np.random.default_rng(config.seed).choice(len(rows), size=config.rows, replace=False))
        codes, rows = codes[drawn], rows[drawn]
    known = {name: np.isin(codes, _codes(each)) for name, each in pairs.items()}
    more = "Leave them out, or raise `rows` of the projection."
    refuse_idle(store, {name: rows[mask] for name, mask in known.items()}, do=more)
    blocks = _Blocks(store, known, device)
    second = {tower: _Moment(blocks.width) for tower in blocks.towers}
    with progress.track("Fitting the projection", len(rows), unit="pairs") as advance:
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            for tower in blocks.towers:
                second[tower].add(blocks.joint(tower, rows[chunk], chunk))
            advance(len(rows[chunk]))
    known_moments = [each.mean for each in second.values() if each.rows]
    _, vectors = np.linalg.eigh(sum(known_moments) / len(known_moments))
    leading = with_signs(vectors[:, ::-1][:, :dim])
    return {name: _map(leading[part], dim) for name, part in blocks.parts.items()}


def _map(leading: NDArray[np.float64], dim: int) -> LinearMap:
    weight = np.zeros((dim, len(leading)), dtype=np.float32)
    weight[: leading.shape[1]] = leading.T
    return LinearMap(weight=weight, bias=np.zeros(dim, dtype=np.float32), unit_inputs=True)


@final
class _Moment:
    """E[z zᵀ] of rows that come in parts."""

    def __init__(self, width: int) -> None:
        self.rows = 0
        self._total = torch.zeros(width, width, dtype=torch.float64)

    def add(self, rows: Float[Tensor, "rows width"]) -> None:
        self.rows += len(rows)
        self._total += (rows.T @ rows).cpu().double()

    @property
    def mean(self) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self._total.numpy() / self.rows
        return mean


@final
class _Blocks:
    """The teachers' embeddings side by side; `parts`: the channels of each, `width` of all of them."""

    def __init__(
        self, store: FeatureStore, known: Mapping[str, NDArray[np.bool_]], device: torch.device
    ) -> None:
        self._store, self._known, self._device = store, known, device
        self._outputs = {name: [tower for tower in TOWERS if tower in store.outputs(name)] for name in known}
        self.towers = [tower for tower in TOWERS if any(tower in each for each in self._outputs.values())]
        self.parts: dict[str, slice] = {}
        self.width = 0
        for name, towers in self._outputs.items():
            dim = store.outputs(name)[towers[0]].shape[-1]
            self.parts[name] = slice(self.width, self.width + dim)
            self.width += dim

    def joint(self, tower: Signal, rows: Indices, place: slice) -> Float[Tensor, "asked width"]:
        """z of those of the pairs `rows`, which stand at `place` among all, that a teacher is used for."""
        joint = torch.zeros(len(rows), self.width, device=self._device)
        asked = torch.zeros(len(rows), device=self._device)
        for name, part in self.parts.items():
            if tower in self._outputs[name]:
                known = np.flatnonzero(self._known[name][place] & has_row(rows, tower))
                at = torch.from_numpy(known).to(self._device)
                joint[at, part] = unit_rows(self._store, name, tower, rows[known], device=self._device)
                asked[at] += 1
        there = asked > 0
        return joint[there] / asked[there].sqrt()[:, None]


def _codes(pairs: Indices) -> NDArray[np.int64]:
    """Both rows of a pair in one number."""
    codes: NDArray[np.int64] = (pairs[:, 0].astype(np.int64) << 32) | (pairs[:, 1].astype(np.int64) + 1)
    return codes
