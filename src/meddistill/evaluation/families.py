"""Which class does the work of which config."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from meddistill.evaluation.bags.task import BagClassification
from meddistill.evaluation.classification.knn import Knn
from meddistill.evaluation.classification.linear_probe import LinearProbe
from meddistill.evaluation.classification.linear_probe_multilabel import LinearProbeMultilabel
from meddistill.evaluation.classification.zero_shot import ZeroShot
from meddistill.evaluation.classification.zero_shot_multilabel import ZeroShotMultilabel
from meddistill.evaluation.config import AnyTaskConfig
from meddistill.evaluation.predictions import SampleNames
from meddistill.evaluation.retrieval.task import Retrieval
from meddistill.evaluation.segmentation.task import SegmentationProbe
from meddistill.evaluation.survival.task import Survival
from meddistill.evaluation.tables import Part
from meddistill.evaluation.task import Task
from meddistill.evaluation.vqa.closed_set import VqaClosedSet
from meddistill.evaluation.vqa.zero_shot import VqaZeroShot

AnyTask = Task[Any, Any]

TASKS: Final[Mapping[str, Callable[[Any, Mapping[str, Part], SampleNames], AnyTask]]] = MappingProxyType(
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


def build_task(config: AnyTaskConfig, parts: Mapping[str, Part], names: SampleNames) -> AnyTask:
    """The task that a config describes, over its rows."""
    return TASKS[config.kind](config, parts, names)
