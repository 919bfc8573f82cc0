"""A fusion network over the toy teachers, with the face that the training loop wants."""

from collections.abc import Iterable

from meddistill.fusion.config import FusionConfig
from meddistill.fusion.network import FusionNetwork
from meddistill.fusion.trainee import FusionTrainee
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.training.config import TrainingConfig
from meddistill.training.loop import Stage
from toy_training import TEACHER_DIMS, ToyData, ToyTeachers, toy_spaces

DIM = 12


class ToyFusionConfig(TrainingConfig, FusionConfig):
    """The configuration of a fusion stage, as recipes compose it."""


def fusion_config(**changes: object) -> ToyFusionConfig:
    settings = {
        "method": "fusion",
        "dim": DIM,
        "hidden": 16,
        "epochs": 3,
        "batch_size": 12,
        "learning_rate": 3e-3,
        "warmup": 1,
        "log_every": 2,
        "checkpoint_every": 3,
    }
    return ToyFusionConfig.model_validate({**settings, **changes})


def fusion_method(config: FusionConfig, names: Iterable[str] = TEACHER_DIMS) -> Method:
    return build_method(config, student_dim=config.dim, teachers=toy_spaces(names), seed=3)


def fusion_trainee(
    config: FusionConfig,
    *,
    source: ToyTeachers | None = None,
    teachers: dict[str, TeacherSpace] | None = None,
) -> FusionTrainee:
    network = FusionNetwork(config, teachers=teachers or toy_spaces(), seed=3)
    return FusionTrainee(network, source or ToyTeachers())


def fusion_stage(config: ToyFusionConfig, *, processes: int = 1, process: int = 0) -> Stage:
    source = ToyTeachers()
    return Stage(
        student=fusion_trainee(config, source=source),
        method=fusion_method(config),
        data=ToyData(batch_size=config.batch_size, processes=processes, process=process),
        source=source,
        config=config,
    )
