"""Objectives by the names that recipes use."""

from collections.abc import Mapping
from typing import Any

from meddistill.objectives.base import Objective, StudentObjective, TowerStatistics
from meddistill.objectives.config import ObjectiveOptions, Tower
from meddistill.objectives.contrastive import Contrastive
from meddistill.objectives.cosine_smooth_l1 import CosineSmoothL1
from meddistill.objectives.feature_mse import FeatureMSE
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.objectives.similarity_kl import SimilarityKL

STUDENT_OBJECTIVES: Mapping[str, type[StudentObjective]] = {"contrastive": Contrastive}

TEACHER_OBJECTIVES: Mapping[str, type[Objective]] = {
    "feature_mse": FeatureMSE,
    "cosine_smooth_l1": CosineSmoothL1,
    "similarity_kl": SimilarityKL,
    "interactive_contrastive": InteractiveContrastive,
}


def build_student_objective(name: str, options: ObjectiveOptions) -> StudentObjective:
    """The objective of the student alone that a recipe calls `name`."""
    return STUDENT_OBJECTIVES[name](**_arguments(options))


def build_teacher_objective(
    name: str, options: ObjectiveOptions, *, statistics: Mapping[Tower, TowerStatistics] | None = None
) -> Objective:
    """The objective against one teacher that a recipe calls `name`; `statistics` are that teacher's.

    Raises ConfigError where the options ask for statistics and there are none.
    """
    arguments = _arguments(options)
    if arguments.get("features") == "standardised":
        arguments["statistics"] = statistics
    return TEACHER_OBJECTIVES[name](**arguments)


def _arguments(options: ObjectiveOptions) -> dict[str, Any]:
    return options.model_dump(exclude={"weight"})
