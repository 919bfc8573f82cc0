"""Tensors of transformers by the names that open_clip gives them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from meddistill.students.initial.start import Origin

# One layer: open_clip's names, and those of CLIP, ViT and DINOv2 in transformers.
CLIP: Final[Mapping[str, Sequence[str]]] = {
    "ln_1": ["layer_norm1"],
    "attn.in_proj": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attn.out_proj": ["self_attn.out_proj"],
    "ln_2": ["layer_norm2"],
    "mlp.c_fc": ["mlp.fc1"],
    "mlp.c_proj": ["mlp.fc2"],
}
_ATTENTION: Final[Mapping[str, Sequence[str]]] = {
    "attn.in_proj": [f"attention.attention.{part}" for part in ("query", "key", "value")],
    "attn.out_proj": ["attention.output.dense"],
}
VIT: Final[Mapping[str, Sequence[str]]] = {
    **_ATTENTION,
    "ln_1": ["layernorm_before"],
    "ln_2": ["layernorm_after"],
    "mlp.c_fc": ["intermediate.dense"],
    "mlp.c_proj": ["output.dense"],
}
DINOV2: Final[Mapping[str, Sequence[str]]] = {
    **_ATTENTION,
    "ln_1": ["norm1"],
    "ln_2": ["norm2"],
    "mlp.c_fc": ["mlp.fc1"],
    "mlp.c_proj": ["mlp.fc2"],
}
DINOV2_SCALES: Final = {"ls_1.gamma": "layer_scale1.lambda1", "ls_2.gamma": "layer_scale2.lambda1"}
_WEIGHTS: Final = ("weight", "bias")

Pair = tuple[str, Origin]


def layers(
    to: str,
    of: str,
    *,
    count: int,
    parts: Mapping[str, Sequence[str]],
    scales: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """All layers of a transformer: `to.0.ln_1.weight` from `of.0.layer_norm1.weight` and so on.

    Query, key and value are one tensor in open_clip, in this order. `scales` are tensors without a layer.
    """
    for layer in range(count):
        for own, names in parts.items():
            for kind in _WEIGHTS:
                name = f"{own}_{kind}" if own == "attn.in_proj" else f"{own}.{kind}"
                yield (
                    f"{to}.{layer}.{name}",
                    Origin(tuple(f"{of}.{layer}.{each}.{kind}" for each in names), joined),
                )
        for own, name in (scales or {}).items():
            yield f"{to}.{layer}.{own}", Origin((f"{of}.{layer}.{name}",))


def normalized(to: str, of: str) -> Iterator[Pair]:
    """Weight and bias of one layer norm."""
    for kind in _WEIGHTS:
        yield f"{to}.{kind}", Origin((f"{of}.{kind}",))


def joined(*tensors: Tensor) -> Tensor:
    """Tensors below one another."""
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def transposed(tensor: Tensor) -> Tensor:
    """A linear map as the matrix that open_clip multiplies with from the right."""
    return tensor.T.contiguous()


def flat(tensor: Tensor) -> Tensor:
    """A class token without its axes of length one."""
    return tensor.reshape(-1)


def places_with_bias(places: Tensor, bias: Tensor) -> Tensor:
    """Position table `[1 + n, d]` plus the bias of the patches' convolution; open_clip's has none."""
    table = places.reshape(-1, places.shape[-1]).clone()
    table[1:] += bias
    return table


def activation(name: str) -> Mapping[str, Any] | None:
    """`quick_gelu` and `act_kwargs` of open_clip for an activation of transformers; None for another."""
    known: dict[str, dict[str, Any]] = {
        "gelu": {},
        "quick_gelu": {"quick_gelu": True},
        "gelu_new": {"act_kwargs": {"approximate": "tanh"}},
        "gelu_pytorch_tanh": {"act_kwargs": {"approximate": "tanh"}},
    }
    return known.get(name)
