"""The maps that a recipe asks for, fitted from a feature store."""

from collections.abc import Sequence

import torch

from meddistill.features.projections.autoencoder import autoencoder_maps
from meddistill.features.projections.config import FittedConfig, LinearAutoencoderConfig, PCAConfig
from meddistill.features.projections.maps import LinearMap
from meddistill.features.projections.pca import pca_map
from meddistill.features.projections.phi_s import phi_s_map
from meddistill.features.projections.pooled import Pooled
from meddistill.features.reader import FeatureStore
from meddistill.progress import Progress, SilentProgress


def fit_maps(
    config: FittedConfig,
    store: FeatureStore,
    teachers: Sequence[str],
    *,
    student_dim: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, LinearMap]:
    """One map for each of these teachers of the store.

    `device` is where an autoencoder is trained. The same store, options and device give the same maps; on a
    CPU bit for bit. PCA and PHI-S look at all rows of the store, the autoencoder at its pairs.

    Raises StoreError where a teacher is not complete in the store or does not vary.
    """
    if isinstance(config, LinearAutoencoderConfig):
        return autoencoder_maps(
            config,
            store,
            teachers,
            dim=config.dim or student_dim,
            device=torch.device(device),
            progress=progress or SilentProgress(),
        )
    pooled = {name: Pooled.of(store.statistics(name), teacher=name) for name in teachers}
    if isinstance(config, PCAConfig):
        return {name: pca_map(each, dim=config.dim or student_dim) for name, each in pooled.items()}
    return {name: phi_s_map(each) for name, each in pooled.items()}
