"""Which class does the work of which config."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from meddistill.evaluation.bags.task import BagClassification
from meddistill.evaluation.classification.knn import Knn
from meddistill.evaluation.classification.linear_probe import LinearProbe
from meddistill.evaluation.classification.zero_shot import ZeroShot
from meddistill.evaluation.config import AnyTaskConfig
from meddistill.evaluation.predictions import SampleNames
from meddistill.evaluation.retrieval.task import Retrieval
from meddistill.evaluation.tables import Part
from meddistill.evaluation.task import Task

AnyTask = Task[Any, Any]

TASKS: Final[Mapping[str, Callable[[Any, Mapping[str, Part], SampleNames], AnyTask]]] = MappingProxyType(
    {
        "zero_shot": ZeroShot,
        "linear_probe": LinearProbe,
        "knn": Knn,
        "retrieval": Retrieval,
        "bag_classification": BagClassification,
    }
)


def build_task(config: AnyTaskConfig, parts: Mapping[str, Part], names: SampleNames) -> AnyTask:
    """The task that a config describes, over its rows."""
    return TASKS[config.kind](config, parts, names)
