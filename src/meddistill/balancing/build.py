"""Weightings by the configuration that names them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from meddistill.balancing.confidence import Confidence
from meddistill.balancing.config import (
    AttentionConfig,
    ConfidenceConfig,
    FixedConfig,
    LossMLPConfig,
    MinNormConfig,
    TorchJDConfig,
    UncertaintyConfig,
    WeightingConfig,
)
from meddistill.balancing.learned import LearnedWeighting, LossMLP, QueryAttention
from meddistill.balancing.min_norm import MinNorm
from meddistill.balancing.uncertainty import Uncertainty
from meddistill.balancing.weighting import Fixed, Uniform, Weighting
from meddistill.errors import ConfigError


def build_weighting(
    config: WeightingConfig,
    *,
    teachers: Sequence[str],
    groups: int = 1,
    image_dims: Mapping[str, int] = MappingProxyType({}),
    seed: int = 0,
) -> Weighting:
    """The rule that a recipe names, for those of the teachers that it gives a weight.

    `groups`: of rows, for rules that tell them apart. `image_dims`: of the teachers' image embeddings, for
    rules that look at them. `seed`: of a rule's own weights.

    Raises ConfigError where the weights do not name these teachers.
    """
    if isinstance(config, FixedConfig):
        return _fixed(config, teachers)
    if isinstance(config, UncertaintyConfig):
        return Uncertainty(len(teachers), rate=config.rate)
    if isinstance(config, ConfidenceConfig):
        return Confidence(teacher_scale=config.teacher_scale)
    if isinstance(config, MinNormConfig):
        return MinNorm(
            len(teachers),
            max_weight=config.max_weight,
            normalize=config.normalize,
            smoothing=config.smoothing,
            every=config.every,
            groups=groups if config.by is not None else 1,
        )
    if isinstance(config, LossMLPConfig | AttentionConfig):
        return _learned(config, teachers, image_dims=image_dims, seed=seed)
    if isinstance(config, TorchJDConfig):
        from meddistill.balancing.torchjd_rule import TorchJD  # solvers that are installed cost seconds

        return TorchJD(config.method, options=config.options)
    return Uniform()


def _learned(
    config: LossMLPConfig | AttentionConfig,
    teachers: Sequence[str],
    *,
    image_dims: Mapping[str, int],
    seed: int,
) -> LearnedWeighting:
    count, options = len(teachers), {"entropy": config.entropy, "rate": config.rate}
    if isinstance(config, LossMLPConfig):
        return LossMLP(count, hidden=config.hidden, seed=seed, **options)
    dims = [image_dims[name] for name in teachers] if config.keys == "pooled" else None
    return QueryAttention(count, dim=config.dim, dims=dims, seed=seed, **options)


def _fixed(config: FixedConfig, teachers: Sequence[str]) -> Fixed:
    unknown = [name for name in config.weights if name not in teachers]
    missing = [name for name in teachers if name not in config.weights]
    known = ", ".join(teachers)
    mistakes = [f"`weights.{name}` must be one of the teachers {known}. Remove it." for name in unknown]
    mistakes += [f"`weights.{name}` must be given; it is missing. 0 leaves it out." for name in missing]
    ConfigError.raise_any("weighting", mistakes)
    return Fixed([config.weights[name] for name in teachers if config.weights[name]])
