"""Config of retrieval; loads no torch."""

from collections.abc import Mapping
from typing import Literal

from meddistill.evaluation.task_config import TaskConfig


class RetrievalConfig(TaskConfig):
    """Image to text and text to image, among the distinct images and captions of a table."""

    kind: Literal["retrieval"]
    """Image to text and text to image, among the distinct images and captions of a table."""
    table: str
    """One of the suite's tables; it needs `text`."""

    def tables(self) -> Mapping[str, str]:
        """The one table."""
        return {"table": self.table}
