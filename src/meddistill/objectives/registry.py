"""Objectives by the names that recipes use."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.affinity_mimicking import AffinityMimicking
from meddistill.objectives.augmented_feature_fusion import AugmentedFeatureFusion
from meddistill.objectives.base import Objective, StudentObjective, TowerStatistics
from meddistill.objectives.class_vector_kl import ClassVectorKL
from meddistill.objectives.config import REGISTERED
from meddistill.objectives.contrastive import Contrastive
from meddistill.objectives.cosine_smooth_l1 import CosineSmoothL1
from meddistill.objectives.feature_mse import FeatureMSE
from meddistill.objectives.gradient_distillation import GradientDistillation
from meddistill.objectives.interactive_contrastive import InteractiveContrastive
from meddistill.objectives.masked_feature_distillation import MaskedFeatureDistillation
from meddistill.objectives.needs import ObjectiveOptions
from meddistill.objectives.similarity_kl import SimilarityKL
from meddistill.signals import Tower

STUDENT_OBJECTIVES: Mapping[str, type[StudentObjective]] = {"contrastive": Contrastive}

TEACHER_OBJECTIVES: dict[str, type[Objective]] = {
    "feature_mse": FeatureMSE,
    "cosine_smooth_l1": CosineSmoothL1,
    "similarity_kl": SimilarityKL,
    "class_vector_kl": ClassVectorKL,
    "interactive_contrastive": InteractiveContrastive,
    "affinity_mimicking": AffinityMimicking,
    "gradient_distillation": GradientDistillation,
    "masked_feature_distillation": MaskedFeatureDistillation,
    "augmented_feature_fusion": AugmentedFeatureFusion,
}


def register(name: str, objective: type[Objective], options: type[ObjectiveOptions]) -> None:
    """Make `name` an objective against a teacher that recipes can name, with these options.

    `objective` is built with the options as keyword arguments, but for `weight` and those in `of_method`.
    Raises ValueError where the name is taken.
    """
    if name in STUDENT_OBJECTIVES or name in TEACHER_OBJECTIVES:
        msg = f"`name` must be new; got {name!r}. Choose another."
        raise ValueError(msg)
    TEACHER_OBJECTIVES[name], REGISTERED[name] = objective, options


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
    bank: Float[Tensor, "texts dim"] | None = None,
    space_dim: int | None = None,
) -> Objective:
    """The objective against one teacher that a recipe calls `name`.

    `statistics` and the features of a `bank` are that teacher's; these, and `space_dim`, are of the space
    where the two meet. Raises ConfigError where the options ask for statistics and there are none.
    """
    arguments = _arguments(options)
    if options.needs_statistics:
        arguments.update(statistics=statistics, components=layers.student_dim)
    if options.own_layers:
        arguments.update(asdict(layers))
    if options.needs_bank is not None:
        arguments.update(bank=bank)
    if options.needs_space_dim:
        arguments.update(dim=space_dim)
    return TEACHER_OBJECTIVES[name](**arguments)


def _arguments(options: ObjectiveOptions) -> dict[str, Any]:
    return options.model_dump(exclude={"weight", *options.of_method}, exclude_none=True)
