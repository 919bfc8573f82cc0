"""What a model gives to evaluation: embeddings, and where it has them tokens and tunable towers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags, Floats32, unit_length
from meddistill.data.samples import Samples
from meddistill.imaging import Geometry, seen_box

if TYPE_CHECKING:
    from meddistill.evaluation.models.trainable import TrainableTowers

Role = Literal["student", "teacher", "frozen", "baseline"]
NO_TEXT: Final = "no text tower"
UNTRAINED_TEXT: Final = "no trained text tower"
Advance = Callable[[int], None]


@runtime_checkable
class Embedder(Protocol):
    """A dual encoder, or an image encoder alone, that can be evaluated.

    Embeddings are as the model gives them; every task normalises them itself. The `fingerprint` changes
    with anything that changes the numbers. `logit_scale` is the exponentiated factor before the cosines,
    None where the model has none. `pretraining_data` names the data sets that it was trained on before, a
    student's teachers included. Teachers enter the teacher mean; the student is compared with everything.
    """

    @property
    def name(self) -> str:
        """What tables and plots call the model."""
        ...

    @property
    def role(self) -> Role:
        """Student, teacher, a frozen model that nobody learnt from, or a baseline (the student without
        distillation, say).
        """
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, the preprocessing and the tokenizer."""
        ...

    @property
    def logit_scale(self) -> float | None:
        """Factor before the cosines."""
        ...

    @property
    def pretraining_data(self) -> tuple[str, ...]:
        """Names of data sets."""
        ...

    def embed_images(self, samples: Samples, *, advance: Advance) -> Floats32:
        """Image embeddings [n, d] in the order of `samples`; calls `advance` with the images just done."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Floats32 | None:
        """Text embeddings [m, d], None for a model without a text tower."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A sequence of vectors for every input: `values` [n, length, d], of which `mask` [n, length] count.

    Of images the patches row by row, without class or register tokens; `grid` is then (rows, columns). What
    of an image the grid covers follows from `geometry`, its raster, of which `cut` (rows, columns) are kept
    about the centre; without a geometry the grid covers the whole image.
    """

    values: NDArray[np.float16]
    mask: Flags
    grid: tuple[int, int] | None = None
    geometry: Geometry | None = None
    cut: tuple[int, int] | None = None

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """What the grid covers of an image: (top, left, bottom, right) in its pixels, may reach outside."""
        if self.geometry is None:
            return 0.0, 0.0, float(height), float(width)
        top, left, bottom, right = seen_box(height, width, self.geometry)
        if self.cut is None:
            return top, left, bottom, right
        rows = (bottom - top) * (1 - self.cut[0] / self.geometry.height) / 2
        columns = (right - left) * (1 - self.cut[1] / self.geometry.width) / 2
        return top + rows, left + columns, bottom - rows, right - columns


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder that also gives tokens; None from a method means that this tower has none to give."""

    @property
    def geometry(self) -> Geometry | None:
        """The raster that image tokens are of, as in `Tokens`."""
        ...

    @property
    def cut(self) -> tuple[int, int] | None:
        """What is kept of it about the centre, as in `Tokens`."""
        ...

    def image_tokens(self, samples: Samples, *, advance: Advance) -> Tokens | None:
        """Patch tokens in the order of `samples`; calls `advance` with the images just done."""
        ...

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:
        """Token states of every text before pooling, padding masked."""
        ...


@runtime_checkable
class TunableEmbedder(Embedder, Protocol):
    """An embedder whose towers can be tuned for a task."""

    @property
    def tunable(self) -> bool:
        """Whether `trainable` gives anything."""
        ...

    def trainable(self) -> "TrainableTowers":
        """A fresh copy of both towers, with gradients; the same at every call."""
        ...


def normalized(embeddings: NDArray[np.floating]) -> Floats32:
    """Rows divided by their Euclidean norm; a row of zeros stays so."""
    return unit_length(embeddings.astype(np.float64)).astype(np.float32)
