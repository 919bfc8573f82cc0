"""Models published as bare state dicts: read them, split them, build the libraries' models from them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import logging

from meddistill.errors import TeacherError, first_line
from meddistill.weight_formats import weight_format

State = dict[str, Tensor]

_SHOWN: Final = 3
# What distributed training leaves before every name.
_WRAPPER: Final = "module."
# Where training programs keep the model beside what else they save.
_NESTS: Final = ("state_dict", "model_state_dict", "model")


def read_state(path: Path) -> State:
    """The tensors of a weight file by name: of the model inside a training checkpoint, where it is one.

    Safetensors, or a pickle through torch's `weights_only` reader. The file is taken to have passed
    `weights.check_weights`.

    Raises
    ------
    TeacherError
        If the file holds no mapping of names to tensors.
    """
    if weight_format(path) == "safetensors":
        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(content, dict) and (inner := next(filter(content.__contains__, _NESTS), None)):
        if not isinstance(content[inner], dict):
            break
        content = content[inner]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        held = ", ".join(sorted(map(str, content))[:_SHOWN]) if isinstance(content, dict) else ""
        got = f"others under {held}" if held else type(content).__name__
        msg = (
            f"`{path.name}` must hold tensors by name, at the top or under one of {', '.join(_NESTS)}; got "
            f"{got}. Save the tensors alone: torch.save(model.state_dict(), OTHER)."
        )
        raise TeacherError(msg)
    return {str(name).removeprefix(_WRAPPER): value for name, value in content.items()}


def part_of(state: Mapping[str, Tensor], prefix: str, *, what: str) -> State:
    """The tensors whose names begin with `prefix`, without it; raises TeacherError where there are none."""
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not part:
        shown = ", ".join(sorted(state)[:_SHOWN])
        msg = (
            f"the weights must hold {what} under `{prefix}`; they begin with {shown}. They are of another "
            "layout: compare `kind` and the files with the model's page."
        )
        raise TeacherError(msg)
    return part


def tensor_of(state: Mapping[str, Tensor], name: str) -> Tensor:
    """One tensor; raises TeacherError where it is missing."""
    if name not in state:
        msg = f"the weights must hold `{name}`; they do not. Compare `kind` with the model's page."
        raise TeacherError(msg)
    return state[name]


def fill(module: nn.Module, state: Mapping[str, Tensor], *, what: str) -> None:
    """Put `state` into `module`; raises TeacherError unless names and shapes are exactly the module's."""
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1 : 1 + _SHOWN]]
        msg = f"{what} must have the weights of its published layout; they differ: {' '.join(lines)}"
        raise TeacherError(msg) from error


def build_transformer(model: Any, settings: Any, state: Mapping[str, Tensor], *, what: str) -> nn.Module:
    """A model of transformers with the weights of `state`, by the names of any of the library's versions.

    Parameters
    ----------
    model
        The library's class, for example `BertModel`.
    settings
        Its configuration.
    state
        The weights. Tensors that the class does not have are passed over: older versions saved buffers.
    what
        What it is, for the message.

    Raises
    ------
    TeacherError
        If weights are missing or of other shapes.
    """
    try:
        with no_bars():
            built, info = model.from_pretrained(
                None, config=settings, state_dict=dict(state), dtype=torch.float32, output_loading_info=True
            )
    except (RuntimeError, ValueError) as error:
        if "size" not in str(error) and "shape" not in str(error):
            raise  # out of memory, for example: not the file's
        msg = (
            f"{what} must have the shapes of its config.json; {first_line(error)} Take the model's own "
            "config.json."
        )
        raise TeacherError(msg) from error
    if info["missing_keys"]:
        shown = ", ".join(sorted(info["missing_keys"])[:_SHOWN])
        msg = (
            f"{what} must have every weight of {model.__name__}; {len(info['missing_keys'])} are missing, "
            f"among them {shown}. Compare the files with the model's page."
        )
        raise TeacherError(msg)
    return built


@contextmanager
def no_bars() -> Iterator[None]:
    """transformers draws a bar of its own for every model it reads, and a table of what is missing."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
