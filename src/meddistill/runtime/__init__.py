"""Uses a bundle: embeds, classifies and searches with stock ONNX Runtime; torch is never imported."""

from meddistill.runtime.bundle import Bundle
from meddistill.runtime.classify import (
    DEFAULT_TEMPLATES,
    Classification,
    class_vectors,
    classify,
    classify_by_task,
)
from meddistill.runtime.embed import Embedded, Embedder
from meddistill.runtime.search import Index, Neighbours

__all__ = [
    "DEFAULT_TEMPLATES",
    "Bundle",
    "Classification",
    "Embedded",
    "Embedder",
    "Index",
    "Neighbours",
    "class_vectors",
    "classify",
    "classify_by_task",
]
