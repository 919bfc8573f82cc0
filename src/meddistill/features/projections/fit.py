"""The maps that a recipe asks for, fitted from a feature store."""

from collections.abc import Mapping, Sequence

import torch

from meddistill.features.projections.autoencoder import autoencoder_maps
from meddistill.features.projections.config import (
    FittedConfig,
    JointPCAConfig,
    LinearAutoencoderConfig,
    PCAConfig,
)
from meddistill.features.projections.joint_pca import joint_pca_maps
from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pairs import refuse_idle, statistics_of_pairs
from meddistill.features.projections.pca import pca_map
from meddistill.features.projections.phi_s import phi_s_map
from meddistill.features.projections.pooled import Pooled
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.progress import Progress, SilentProgress


def fit_maps(
    config: FittedConfig,
    store: FeatureStore,
    teachers: Sequence[str],
    *,
    student_dim: int,
    pairs: Mapping[str, Indices] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, LinearMap]:
    """One map for each of these teachers of the store.

    Each looks at `pairs` `[n, 2]` of a teacher (rows of images and texts, -1 for a caption that is not
    there), by default those of the store whose image's modality it knows. An autoencoder and joint PCA are
    computed on `device`. The same store, options and device give the same maps; on a CPU with the same number
    of threads bit for bit.

    Raises StoreError where a teacher is not complete in the store, has no pairs, or does not vary.
    """
    fitted = {name: _known(store, name) for name in teachers} if pairs is None else pairs
    refuse_idle(store, fitted)
    if isinstance(config, LinearAutoencoderConfig | JointPCAConfig):
        dim, place = config.dim or student_dim, torch.device(device)
        shown = progress or SilentProgress()
        if isinstance(config, JointPCAConfig):
            return joint_pca_maps(config, store, fitted, dim=dim, device=place, progress=shown)
        return autoencoder_maps(config, store, fitted, dim=dim, device=place, progress=shown)
    pooled = {
        name: Pooled.of(statistics_of_pairs(store, name, fitted[name]), teacher=name) for name in teachers
    }
    if isinstance(config, PCAConfig):
        return {name: pca_map(each, dim=config.dim or student_dim) for name, each in pooled.items()}
    return {name: phi_s_map(each) for name, each in pooled.items()}


def _known(store: FeatureStore, teacher: str) -> Indices:
    pairs = store.tables.shown
    known: Indices = pairs[store.available(teacher, pairs[:, 0])]
    return known
