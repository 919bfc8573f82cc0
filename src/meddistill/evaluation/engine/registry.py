"""Which class does the work of which config."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.engine.suite_config import AnyTaskConfig
from meddistill.evaluation.tasks.bags.task import BagClassification
from meddistill.evaluation.tasks.classification.knn import Knn
from meddistill.evaluation.tasks.classification.linear_probe import LinearProbe
from meddistill.evaluation.tasks.classification.linear_probe_multilabel import LinearProbeMultilabel
from meddistill.evaluation.tasks.classification.zero_shot import ZeroShot
from meddistill.evaluation.tasks.classification.zero_shot_multilabel import ZeroShotMultilabel
from meddistill.evaluation.tasks.retrieval.task import Retrieval
from meddistill.evaluation.tasks.segmentation.task import SegmentationProbe
from meddistill.evaluation.tasks.survival.task import Survival
from meddistill.evaluation.tasks.vqa.closed_set import VqaClosedSet
from meddistill.evaluation.tasks.vqa.zero_shot import VqaZeroShot

AnyTask = Task[Any, Any]

TASKS: Final[Mapping[str, type[AnyTask]]] = MappingProxyType(
    {
        "zero_shot": ZeroShot,
        "linear_probe": LinearProbe,
        "knn": Knn,
        "zero_shot_multilabel": ZeroShotMultilabel,
        "linear_probe_multilabel": LinearProbeMultilabel,
        "retrieval": Retrieval,
        "survival": Survival,
        "segmentation_probe": SegmentationProbe,
        "vqa_closed_set": VqaClosedSet,
        "vqa_zero_shot": VqaZeroShot,
        "bag_classification": BagClassification,
    }
)


def build_task(config: AnyTaskConfig, parts: Mapping[str, EvalSplit], names: SampleNames) -> AnyTask:
    """The task that a config describes, over its rows."""
    return TASKS[config.kind](config, parts, names)
