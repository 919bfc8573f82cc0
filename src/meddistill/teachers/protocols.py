"""What a teacher can give, one protocol a signal. Adapters and the user's own models satisfy them.

Pixels are float32 and normalised by the teacher's own mean and standard deviation. Outputs are not
normalised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.signals import Signal


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Tokens of image patches, row by row, without class or register tokens; `grid` is (rows, columns)."""

    tokens: Float[Tensor, "batch patches dim"]
    grid: tuple[int, int]


def patches_of_map(values: Float[Tensor, "batch dim rows columns"]) -> PatchGrid:
    """The tokens of a feature map."""
    return PatchGrid(tokens=values.flatten(2).transpose(1, 2), grid=(values.shape[2], values.shape[3]))


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """States of a text's tokens, special ones included; those where `mask` is False are padding."""

    tokens: Float[Tensor, "batch length dim"]
    mask: Bool[Tensor, "batch length"]


@runtime_checkable
class ImageEmbedding(Protocol):
    """One vector an image."""

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of normalised pixels."""
        ...


@runtime_checkable
class TextEmbedding(Protocol):
    """One vector a text; tokenises by itself, with its own cleaning and truncation."""

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Embeddings of texts."""
        ...


@runtime_checkable
class PatchTokens(Protocol):
    """One vector a patch."""

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """Tokens of the last layer after its normalisation."""
        ...


@runtime_checkable
class ImageAndPatches(Protocol):
    """Embedding and patches by one forward pass; a model that has both and not this is asked twice."""

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """What `embed_images` and `patch_tokens` give."""
        ...


@runtime_checkable
class TextTokens(Protocol):
    """One vector a token of a text; tokenises by itself, as the text embedding does."""

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """States of the last layer after its normalisation, before pooling and projection."""
        ...


PROTOCOLS: Final[Mapping[Signal, type]] = MappingProxyType(
    {
        "image": ImageEmbedding,
        "text": TextEmbedding,
        "patches": PatchTokens,
        "text_tokens": TextTokens,
    }
)


def signals_of(model: object) -> frozenset[Signal]:
    """The protocols that `model` satisfies."""
    return frozenset(name for name, protocol in PROTOCOLS.items() if isinstance(model, protocol))
