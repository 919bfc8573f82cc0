"""A teacher at work: frozen for ever, fed with uint8 rasters, checked at every output."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final, Self, final

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from meddistill.allocator import keep_freed_memory
from meddistill.errors import MedDistillError, TeacherError, one_line
from meddistill.imaging.geometry import InputSpec
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.protocols import (
    ImageAndPatches,
    ImageEmbedding,
    PatchGrid,
    PatchTokens,
    TextEmbedding,
    TextStates,
    TextTokens,
    signals_of,
)

_LOWERED: Final = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
_OUTPUTS: Final[Mapping[Signal, str]] = {
    "image": "image embeddings",
    "text": "text embeddings",
    "patches": "patch tokens",
    "text_tokens": "text tokens",
}


@final
class FrozenTeacher:
    """A model that satisfies teacher protocols, with its card. Holds the model, is none itself.

    It is no torch module, so no container can put it into training mode, no optimiser finds its
    parameters and no checkpoint stores them. Outputs carry no gradient and are float32 on the teacher's
    device; they can stand in a loss. With the card's precision `bfloat16` matrix products run in bfloat16
    and their weights are kept so; the rest stays float32. A card without dims, as before the first trial,
    lets any width pass.
    """

    def __init__(
        self, model: object, *, card: TeacherCard, failed: Mapping[Signal, str] = MappingProxyType({})
    ) -> None:
        keep_freed_memory()
        self.card = card
        self._failed = failed
        self.device = torch.device("cpu")
        self._model = model
        self._modules = _modules_of(model)
        if card.precision == "bfloat16":
            for module in self._modules:
                _lower(module)
        # Walking through a large model takes as long as a small batch.
        self._parts = tuple(part for module in self._modules for part in module.modules())
        self._parameters = tuple(each for module in self._modules for each in module.parameters())
        self._freeze()

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The torch modules inside, none for graphs; for inspection."""
        return self._modules

    @property
    def is_runnable(self) -> bool:
        """Whether there is a model; of kind `stored` there is not."""
        return not getattr(self._model, "only_stored", False)

    @property
    def unused(self) -> frozenset[Signal]:
        """What the model could give and its card leaves out."""
        return signals_of(self._model) - self.card.signals

    def with_card(self, card: TeacherCard, *, failed: Mapping[Signal, str] | None = None) -> "FrozenTeacher":
        """The same model under another card; `failed` says why signals are missing there."""
        kept = self._failed if failed is None else failed
        return FrozenTeacher(self._model, card=card, failed=kept).to(self.device)

    def trainable_copy(self) -> tuple[object, tuple[nn.Module, ...]] | None:
        """A copy of the model with its modules in float32 and with gradients; None where there is no module.

        The teacher itself stays frozen.
        """
        if not self._modules:
            return None
        copied = copy.deepcopy(self._model)
        modules = _modules_of(copied)
        for module in modules:
            module.float().requires_grad_(requires_grad=True)
        return copied, modules

    def to(self, device: torch.device | str) -> Self:
        """Move to `device`; returns itself."""
        self.device = torch.device(device)
        for module in self._modules:
            module.to(self.device)
        return self

    def image_embeddings(self, rasters: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of rasters of the card's geometry, not normalised.

        Raises
        ------
        TeacherError
            If the teacher has no image embedding, fails, or gives another width or numbers that are not
            finite.
        """
        model = self._model
        if not isinstance(model, ImageEmbedding):
            raise TeacherError(self._without("image"))
        pixels = self.pixels(rasters)
        with self._forward("image"):
            output = model.embed_images(pixels)
        return self._checked("image", output, rows=len(rasters))

    def text_embeddings(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """Embeddings of texts, through the teacher's own cleaning, tokenizer and truncation; not
        normalised.

        Raises
        ------
        TeacherError
            If the teacher has no text embedding, fails, or gives another width or numbers that are not
            finite.
        """
        model = self._model
        if not isinstance(model, TextEmbedding):
            raise TeacherError(self._without("text"))
        with self._forward("text"):
            output = model.embed_texts(texts)
        return self._checked("text", output, rows=len(texts))

    def patch_tokens(self, rasters: UInt8[Tensor, "batch height width 3"]) -> PatchGrid:
        """Patch tokens of rasters of the card's geometry.

        Raises
        ------
        TeacherError
            If the teacher has no patch tokens, fails, or gives other shapes or numbers that are not finite.
        """
        model = self._model
        if not isinstance(model, PatchTokens) or "patches" in self._failed:
            raise TeacherError(self._without("patches"))
        pixels = self.pixels(rasters)
        with self._forward("patches"):
            output = model.patch_tokens(pixels)
        return self._checked_patches(output, len(rasters))

    def image_outputs(
        self, rasters: UInt8[Tensor, "batch height width 3"], signals: Collection[Signal]
    ) -> dict[Signal, Tensor]:
        """`[batch, dim]` of image, `[batch, patches, dim]` of patches, as `signals` says.

        Both come from one forward pass where the model has one for both.

        Raises
        ------
        TeacherError
            As of `image_embeddings` and `patch_tokens`.
        """
        model = self._model
        one_pass = {"image", "patches"} <= {*signals} and "patches" not in self._failed
        if one_pass and isinstance(model, ImageAndPatches):
            pixels = self.pixels(rasters)
            with self._forward("patches"):
                embeddings, output = model.embed_images_with_patches(pixels)
            image = self._checked("image", embeddings, rows=len(rasters))
            return {"image": image, "patches": self._checked_patches(output, len(rasters)).tokens}
        found: dict[Signal, Tensor] = {}
        if "image" in signals:
            found["image"] = self.image_embeddings(rasters)
        if "patches" in signals:
            found["patches"] = self.patch_tokens(rasters).tokens
        return found

    def text_tokens(self, texts: Sequence[str]) -> TextStates:
        """Token states of texts before pooling, through the teacher's own cleaning, tokenizer and truncation.

        The length is that of the longest of these texts or the teacher's own; padding is masked.

        Raises
        ------
        TeacherError
            If the teacher has no text tokens, fails, or gives other shapes, a text without a token, or
            numbers that are not finite.
        """
        model = self._model
        if not isinstance(model, TextTokens) or "text_tokens" in self._failed:
            raise TeacherError(self._without("text_tokens"))
        with self._forward("text_tokens"):
            output = model.text_tokens(texts)
        length, mask = output.mask.shape[-1], output.mask.to(self.device).clone()
        if mask.shape != (len(texts), length) or not bool(mask.any(dim=1).all()):
            msg = (
                f"the mask of text tokens of teacher {self.card.id!r} must have shape ({len(texts)}, length) "
                f"and a token in every row; got {tuple(mask.shape)}. Mend the model."
            )
            raise TeacherError(msg)
        rows = output.tokens.flatten(0, 1) if output.tokens.dim() == 3 else output.tokens
        tokens = self._checked("text_tokens", rows, rows=len(texts) * length)
        return TextStates(tokens=tokens.unflatten(0, (len(texts), length)), mask=mask)

    def pixels(self, rasters: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 h w"]:
        """What the model sees of rasters: cut, and normalised on the teacher's device.

        Raises
        ------
        TeacherError
            If the teacher sees no images.
        ValueError
            If the rasters are not uint8 of the card's geometry.
        """
        spec = self.card.input
        if spec is None:
            msg = f"`rasters` must go to a teacher that sees images; got {self.card.id!r}, which reads texts."
            raise TeacherError(msg)
        _check_rasters(rasters, spec)
        height, width = self.card.centre_crop or (spec.height, spec.width)
        top, left = self._margin(spec.height - height), self._margin(spec.width - width)
        cut = rasters[:, top : top + height, left : left + width].to(self.device)
        mean = torch.tensor(spec.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(spec.std, device=self.device).view(1, 3, 1, 1)
        # Divided before the mean is taken off, as `imaging.normalize` and the libraries do: same rounding.
        return cut.permute(0, 3, 1, 2).contiguous().float().div_(255).sub_(mean).div_(std)

    def _without(self, signal: Signal) -> str:
        has = ", ".join(sorted(self.card.signals)) or "none"
        why = f" (tried: {self._failed[signal]})" if signal in self._failed else ""
        return (
            f"teacher {self.card.id!r} must give the signal {signal}; it gives: {has}{why}. Choose "
            "another teacher or drop what needs it."
        )

    def _margin(self, excess: int) -> int:
        """What is cut off before the centre: timm rounds half a pixel to even, transformers down."""
        return round(excess / 2) if self.card.kind == "timm" else excess // 2

    @contextmanager
    def _forward(self, signal: Signal) -> Iterator[None]:
        self._freeze()
        lower = self.card.precision == "bfloat16"
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=lower),
            ):
                yield
        except (MedDistillError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever the model's own code raises
            msg = (
                f"{_OUTPUTS[signal]} of teacher {self.card.id!r}: {self.card.kind} could not load or run it "
                f"({type(error).__name__}: {one_line(error)}). Mend the model, or look at these inputs."
            )
            raise TeacherError(msg) from error

    def _freeze(self) -> None:
        """Again at every call: whatever happened to the modules outside, they run as evaluated."""
        if any(part.training for part in self._parts):
            for module in self._modules:
                module.eval()
        for parameter in self._parameters:
            parameter.requires_grad = False

    def _checked_patches(self, output: PatchGrid, images: int) -> PatchGrid:
        patches = output.grid[0] * output.grid[1]
        rows = output.tokens.flatten(0, 1) if output.tokens.dim() == 3 else output.tokens
        tokens = self._checked("patches", rows, rows=images * patches)
        return PatchGrid(tokens=tokens.unflatten(0, (images, patches)), grid=output.grid)

    def _checked(self, signal: Signal, output: object, *, rows: int) -> Tensor:
        what, dim = _OUTPUTS[signal], self.card.dims.get(signal)
        if not isinstance(output, Tensor):
            msg = f"{what} of teacher {self.card.id!r} must be a tensor; got {type(output).__name__}."
            raise TeacherError(msg)
        if not output.is_floating_point():
            msg = (
                f"{what} of teacher {self.card.id!r} must be floating-point numbers; got {output.dtype}. "
                "Mend the model."
            )
            raise TeacherError(msg)
        # A clone outside inference mode: inference tensors cannot take part in a loss that is differentiated.
        result = output.to(self.device, torch.float32).clone()
        if result.shape != (rows, result.shape[-1] if dim is None else dim):
            msg = (
                f"{what} of teacher {self.card.id!r} must have shape ({rows}, {dim or 'dim'}); got "
                f"{tuple(result.shape)}. Mend the model: one row of equal width for every input."
            )
            raise TeacherError(msg)
        finite = torch.isfinite(result).all(dim=1)
        if not bool(finite.all()):
            bad = torch.nonzero(~finite).flatten().tolist()
            named = ", ".join(str(row) for row in bad[:10]) + (", …" if len(bad) > 10 else "")
            msg = (
                f"{what} of teacher {self.card.id!r} must be finite; got others in rows {named} of the "
                f"batch. {_remedy(self.card)}"
            )
            raise TeacherError(msg)
        return result


def _modules_of(model: object) -> tuple[nn.Module, ...]:
    if isinstance(model, nn.Module):
        return (model,)
    return tuple(value for value in getattr(model, "__dict__", {}).values() if isinstance(value, nn.Module))


def _lower(module: nn.Module) -> None:
    """Weights of matrix products to bfloat16. Autocast alone would cast each of them again at every
    call."""
    for part in module.modules():
        if isinstance(part, _LOWERED) and not hasattr(part, "parametrizations"):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(torch.bfloat16)


def _check_rasters(rasters: Tensor, spec: InputSpec) -> None:
    if rasters.dtype != torch.uint8 or rasters.shape[1:] != (spec.height, spec.width, 3):
        msg = (
            f"`rasters` must be uint8 of shape (batch, {spec.height}, {spec.width}, 3); got {rasters.dtype} "
            f"of shape {tuple(rasters.shape)}. Rasterise with the geometry of the teacher's card."
        )
        raise ValueError(msg)


def _remedy(card: TeacherCard) -> str:
    if card.precision == "bfloat16":
        return "Set the teacher's `precision: float32`."
    return "Look at these inputs, and compare the weights with the model's page."
