"""What a folder brings to a student: architectures, preprocessing, and weights by their new names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import torch
from open_clip.model import resize_pos_embed, resize_text_pos_embed
from safetensors.torch import load_file
from torch import Tensor

from meddistill.errors import CheckpointError
from meddistill.students.initial.folder import reading, shown
from meddistill.students.presets import ModelConfig

State = dict[str, Tensor]
Towers = Literal["both", "image"]
Preprocessing = dict[str, Any]
IMAGE: Final = "visual."
_SCALARS: Final = ("logit_scale", "logit_bias")
_SHOWN: Final = 3


@dataclass(frozen=True)
class Origin:
    """Which tensors of a folder make one of the student's, and how."""

    names: tuple[str, ...]
    make: Callable[..., Tensor] = lambda tensor: tensor


Table = Mapping[str, Origin]
"""The student's names of tensors, and where each comes from."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A folder to start from, read but for its weights.

    `source` says in a few words what it is. `vision`, `text` and `common` are the parts of an open_clip
    `model_cfg`; `text` is None for a folder with an image tower alone. `preprocessing` is an open_clip
    `preprocess_cfg`; an `interpolation` of None there is one that images are not resized by. `table` maps the
    names of the student's tensors to the folder's, given these and the student's model; `fresh` names those
    that may be missing in it.
    """

    source: str
    files: tuple[Path, ...]
    vision: ModelConfig
    preprocessing: Preprocessing
    table: Callable[[frozenset[str], Any], Table]
    text: ModelConfig | None = None
    common: ModelConfig = field(default_factory=dict)
    fresh: Callable[[Any], frozenset[str]] = lambda _: frozenset()

    def towers(self, wanted: Towers) -> Towers:
        """Those of the `wanted` towers that the folder has."""
        return "image" if self.text is None else wanted


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a student started from: how many of the `tensors` of `source` were taken, which were `left`, and
    which of the student's own, `fresh`, started from random numbers.
    """

    source: str
    tensors: int
    left: tuple[str, ...]
    fresh: tuple[str, ...]


def take_weights(model: Any, start: Start, *, towers: Towers) -> Taken:
    """Fill the towers of open_clip's `model` from the folder; position tables are resized to its input.

    Raises
    ------
    CheckpointError
        If the files are no safetensors, or tensors are missing, left over, or of other shapes.
    """
    tensors = _read(start.files)
    image_only = start.towers(towers) == "image"
    table = {
        name: origin
        for name, origin in start.table(frozenset(tensors), model).items()
        if not image_only or name.startswith(IMAGE)
    }
    absent = sorted({name for origin in table.values() for name in origin.names} - set(tensors))
    if absent:
        raise _others(start, f"{shown(absent)} of its own architecture are missing in it")
    state = {to: origin.make(*(tensors[name] for name in origin.names)) for to, origin in table.items()}
    _fit(state, model, image_only=image_only)
    fresh = _fill(model, state, start, image_only=image_only)
    used = {name for origin in table.values() for name in origin.names}
    return Taken(source=start.source, tensors=len(used), left=tuple(sorted(set(tensors) - used)), fresh=fresh)


def _read(files: Iterable[Path]) -> State:
    state: State = {}
    for path in files:
        with reading(path):
            state.update(load_file(path))
    return state


def _fit(state: State, model: Any, *, image_only: bool) -> None:
    """What may differ between equal architectures: the size of the input, and how scalars are stored."""
    resize_pos_embed(state, model)
    if image_only:
        return
    if model.logit_bias is not None and "logit_bias" not in state:
        state["logit_bias"] = torch.zeros_like(model.logit_bias)
    for name in _SCALARS:
        if name in state and (own := getattr(model, name)) is not None:
            state[name] = state[name].reshape(own.shape)
    width = getattr(getattr(model.text, "positional_embedding", None), "shape", (0, 0))[1]
    if "text.positional_embedding" in state and state["text.positional_embedding"].shape[1] == width:
        resize_text_pos_embed(state, model)


def _fill(model: Any, state: State, start: Start, *, image_only: bool) -> tuple[str, ...]:
    """Load the state; the names of the model's tensors that it does not have."""
    own: State = model.state_dict()
    wanted = {name for name in own if not image_only or name.startswith(IMAGE)}
    missing = sorted(wanted - set(state) - start.fresh(model))
    surplus = sorted(set(state) - set(own))
    shapes = [
        f"{name} is {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in sorted(state.items())
        if name in own and tensor.shape != own[name].shape
    ]
    differences = [
        f"{shown(names)} {what}" for names, what in ((missing, "missing"), (surplus, "too many")) if names
    ]
    differences += shapes[:_SHOWN]
    if differences:
        raise _others(start, "; ".join(differences))
    model.load_state_dict(state, strict=False)
    return tuple(sorted(set(own) - set(state)))


def _others(start: Start, differences: str) -> CheckpointError:
    msg = (
        f"`init` must hold weights of the student's architecture; got {start.source}: {differences}. Leave "
        "out `embed_dim` and keys of `text` that are not the folder's own, or copy the whole folder again."
    )
    return CheckpointError(msg)
