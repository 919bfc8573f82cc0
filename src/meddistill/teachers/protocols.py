"""What a teacher can do, one protocol a capability. Adapters and the user's own models satisfy them.

Pixels are float32 and normalised by the teacher's own mean and standard deviation. Outputs are not
normalised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.teachers.card import Capability


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """Tokens of image patches, row by row, without class or register tokens; `grid` is (rows, columns)."""

    tokens: Float[Tensor, "batch patches dim"]
    grid: tuple[int, int]


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
class TextTokens(Protocol):
    """One vector a token of a text; tokenises by itself, as the text embedding does."""

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """States of the last layer after its normalisation, before pooling and projection."""
        ...


@runtime_checkable
class HiddenStates(Protocol):
    """States after chosen layers, for models of the user's own (kind `python`)."""

    def hidden_states(
        self, pixels: Float[Tensor, "batch 3 height width"], layers: Sequence[int]
    ) -> tuple[Float[Tensor, "batch tokens dim"], ...]:
        """States after each of `layers`, class token first; negative numbers count from the last layer."""
        ...


@runtime_checkable
class AttentionMaps(Protocol):
    """Attention probabilities of chosen layers, for models of the user's own (kind `python`)."""

    def attention_maps(
        self, pixels: Float[Tensor, "batch 3 height width"], layers: Sequence[int]
    ) -> tuple[Float[Tensor, "batch heads tokens tokens"], ...]:
        """Softmax outputs of each of `layers`; rows sum to one."""
        ...


PROTOCOLS: Final[Mapping[Capability, type]] = MappingProxyType(
    {
        "image_embedding": ImageEmbedding,
        "text_embedding": TextEmbedding,
        "patch_tokens": PatchTokens,
        "text_tokens": TextTokens,
        "hidden_states": HiddenStates,
        "attention_maps": AttentionMaps,
    }
)


def capabilities_of(model: object) -> frozenset[Capability]:
    """The protocols that `model` satisfies."""
    return frozenset(name for name, protocol in PROTOCOLS.items() if isinstance(model, protocol))
