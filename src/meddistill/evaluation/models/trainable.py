"""Copies of a model's towers that can be trained, for tasks that tune them."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from meddistill.data.loader import ImageBatches
from meddistill.data.samples import Samples
from meddistill.errors import TeacherError
from meddistill.imaging import Geometry
from meddistill.teachers.frozen import FrozenTeacher

_AT_ONCE: Final = 64


class TrainableTowers(nn.Module):
    """Both towers of a model with gradients. The copy is the caller's; the model itself stays as it is."""

    @abstractmethod
    def rasters(self, samples: Samples) -> Tensor:
        """uint8 rasters [n, height, width, 3] of samples, in their order, as the image tower takes them."""

    @abstractmethod
    def image_tokens(self, rasters: Tensor) -> Tensor:
        """Patch tokens [b, p, d] of rasters; a sequence of one where the tower has none to give."""

    @abstractmethod
    def text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states [b, l, e] of texts before pooling, and which of them count [b, l]."""


@final
class TeacherTowers(TrainableTowers):
    """A copy of a frozen model in float32, through its own preprocessing and tokenizer.

    A tower without tokens gives its embedding as a sequence of one. Raises TeacherError for a model that is
    no torch module.
    """

    def __init__(self, teacher: FrozenTeacher) -> None:
        super().__init__()
        spec, copied = teacher.card.input, teacher.trainable_copy()
        if spec is None or copied is None:
            msg = (
                f"Teacher `{teacher.card.id}` must be a torch model that sees images to be tuned; it is not."
            )
            raise TeacherError(msg)
        # Not all models are modules themselves: some hold them.
        self.model, modules = copied
        self.inside = nn.ModuleList(modules)
        self._teacher, self._geometry = teacher, spec.geometry

    def rasters(self, samples: Samples) -> Tensor:
        """uint8 rasters of the model's geometry."""
        return rasters_of(samples, self._geometry)

    def image_tokens(self, rasters: Tensor) -> Tensor:
        """Patch tokens, or the embedding."""
        pixels = self._teacher.pixels(rasters).to(next(self.parameters()).device)
        model: Any = self.model
        if "patches" in self._teacher.card.signals:
            return model.patch_tokens(pixels).tokens
        return model.embed_images(pixels).unsqueeze(1)

    def text_tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states, or the embedding."""
        model: Any = self.model
        if "text_tokens" in self._teacher.card.signals:
            states = model.text_tokens(texts)
            return states.tokens, states.mask
        pooled = model.embed_texts(texts).unsqueeze(1)
        return pooled, pooled.new_ones(pooled.shape[:2], dtype=torch.bool)


def rasters_of(samples: Samples, geometry: Geometry) -> Tensor:
    """uint8 rasters [n, height, width, 3] of samples, in their order."""
    batches = ImageBatches(samples, frozenset({geometry}), batch_size=_AT_ONCE)
    return torch.cat([rasters[geometry] for _, rasters in batches])
