"""Methods by the configuration that names them."""

from collections.abc import Mapping

from meddistill.features.projections.config import JointPCAConfig
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.methods.contrastive import ContrastiveMethod
from meddistill.methods.embedding import EmbeddingMethod, missing_of_teachers
from meddistill.methods.ensemble import EnsembleMethod


def build_method(
    config: ContrastiveConfig | EmbeddingConfig,
    *,
    student_dim: int,
    teachers: Mapping[str, TeacherSpace],
    seed: int,
) -> Method:
    """The method that a stage names, on the CPU, with heads initialised from `seed` and their teachers' ids.

    `teachers` are looked at by methods that use them. Raises ConfigError with everything that they lack.
    """
    if isinstance(config, EmbeddingConfig):
        if isinstance(config.projection, JointPCAConfig):
            return EnsembleMethod(config, student_dim=student_dim, teachers=teachers, seed=seed)
        return EmbeddingMethod(config, student_dim=student_dim, teachers=teachers, seed=seed)
    return ContrastiveMethod(config)


def unmet_by_teachers(
    config: ContrastiveConfig | EmbeddingConfig, teachers: Mapping[str, TeacherSpace]
) -> list[str]:
    """One line for everything that a method needs and the teachers, looked at without outputs, lack."""
    return missing_of_teachers(config, teachers) if isinstance(config, EmbeddingConfig) else []
