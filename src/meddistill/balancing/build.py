"""Weightings by the configuration that names them."""

from collections.abc import Sequence

from meddistill.balancing.confidence import Confidence
from meddistill.balancing.config import (
    ConfidenceConfig,
    FixedConfig,
    TorchJDConfig,
    UncertaintyConfig,
    WeightingConfig,
)
from meddistill.balancing.uncertainty import Uncertainty
from meddistill.balancing.weighting import Fixed, Uniform, Weighting
from meddistill.errors import ConfigError


def build_weighting(config: WeightingConfig, *, teachers: Sequence[str]) -> Weighting:
    """The rule that a recipe names, for those of the teachers that it gives a weight.

    Raises ConfigError where the weights do not name these teachers.
    """
    if isinstance(config, FixedConfig):
        return _fixed(config, teachers)
    if isinstance(config, UncertaintyConfig):
        return Uncertainty(len(teachers), rate=config.rate)
    if isinstance(config, ConfidenceConfig):
        return Confidence(teacher_scale=config.teacher_scale)
    if isinstance(config, TorchJDConfig):
        from meddistill.balancing.torchjd_rule import TorchJD  # solvers that are installed cost seconds

        return TorchJD(config.method, options=config.options)
    return Uniform()


def _fixed(config: FixedConfig, teachers: Sequence[str]) -> Fixed:
    unknown = [name for name in config.weights if name not in teachers]
    missing = [name for name in teachers if name not in config.weights]
    known = ", ".join(teachers)
    mistakes = [f"`weights.{name}` must be one of the teachers {known}. Remove it." for name in unknown]
    mistakes += [f"`weights.{name}` must be given; it is missing. 0 leaves it out." for name in missing]
    if mistakes:
        subject = "weighting"
        raise ConfigError(subject, mistakes)
    return Fixed([config.weights[name] for name in teachers if config.weights[name]])
