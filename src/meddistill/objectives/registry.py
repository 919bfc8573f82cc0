"""Objectives by the names that recipes use."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from meddistill.objectives.affinity_mimicking import AffinityMimicking
from meddistill.objectives.augmented_feature_fusion import AugmentedFeatureFusion
from meddistill.objectives.base import Objective, StudentObjective, TowerStatistics
from meddistill.objectives.config import ObjectiveOptions, Tower
from meddistill.objectives.contrastive import Contrastive
from meddistill.objectives.cosine_smooth_l1 import CosineSmoothL1
from meddistill.objectives.feature_mse import FeatureMSE
from meddistill.objectives.gradient_distillation import GradientDistillation
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.objectives.masked_feature_distillation import MaskedFeatureDistillation
from meddistill.objectives.similarity_kl import SimilarityKL

STUDENT_OBJECTIVES: Mapping[str, type[StudentObjective]] = {"contrastive": Contrastive}

TEACHER_OBJECTIVES: Mapping[str, type[Objective]] = {
    "feature_mse": FeatureMSE,
    "cosine_smooth_l1": CosineSmoothL1,
    "similarity_kl": SimilarityKL,
    "interactive_contrastive": InteractiveContrastive,
    "affinity_mimicking": AffinityMimicking,
    "gradient_distillation": GradientDistillation,
    "masked_feature_distillation": MaskedFeatureDistillation,
    "augmented_feature_fusion": AugmentedFeatureFusion,
}


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What an objective with layers of its own must know to make them."""

    student_dim: int
    teacher_dim: int
    seed: int


def build_student_objective(name: str, options: ObjectiveOptions) -> StudentObjective:
    """The objective of the student alone that a recipe calls `name`."""
    return STUDENT_OBJECTIVES[name](**_arguments(options))


def build_teacher_objective(
    name: str,
    options: ObjectiveOptions,
    *,
    layers: Layers,
    statistics: Mapping[Tower, TowerStatistics] | None = None,
) -> Objective:
    """The objective against one teacher that a recipe calls `name`; `statistics` are that teacher's.

    Raises ConfigError where the options ask for statistics and there are none.
    """
    arguments = _arguments(options)
    if arguments.get("features") in {"standardized", "whitened"}:
        arguments.update(statistics=statistics, components=layers.student_dim)
    kind = TEACHER_OBJECTIVES[name]
    if kind is AugmentedFeatureFusion:
        arguments.update(asdict(layers))
    return kind(**arguments)


def _arguments(options: ObjectiveOptions) -> dict[str, Any]:
    return options.model_dump(exclude={"weight", *options.of_method}, exclude_none=True)
