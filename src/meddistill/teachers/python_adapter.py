"""Models of the user's own: a function that returns an object with teacher protocols."""

import hashlib
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from meddistill.errors import TeacherError
from meddistill.imaging.geometry import InputSpec
from meddistill.teachers.adapted import Adapted, version_of
from meddistill.teachers.config import PythonTeacher
from meddistill.teachers.protocols import PROTOCOLS, signals_of
from meddistill.teachers.sources import sha256_of, sha256_of_lines


def adapt(config: PythonTeacher, *, base: Path) -> Adapted:
    """Call the factory. The hash covers the object's torch modules and the module's source file."""
    name, function = config.factory.split(":")
    with _import_path(base):
        module = _import(name, base=base)
        factory = getattr(module, function, None)
        if not callable(factory):
            msg = f"`factory` must name a function of {name!r}; got {function!r}. Look for a misspelling."
            raise TeacherError(msg)
        model = factory(**config.options)
    if not signals_of(model):
        methods = ", ".join(sorted(PROTOCOLS))
        msg = (
            f"`factory` must return an object with one or more of the protocols {methods}; got "
            f"{type(model).__name__}. See meddistill/teachers/protocols.py for their methods."
        )
        raise TeacherError(msg)
    modules = [model] if isinstance(model, nn.Module) else _modules(model)
    context = getattr(model, "context_length", None)
    source = [sha256_of([Path(module.__file__)])] if module.__file__ else []
    return Adapted(
        model=model,
        source=config.factory,
        library=version_of("torch"),
        weights_sha256=sha256_of_lines(["python", *source, *(_state_hash(each) for each in modules)]),
        parameters=sum(parameter.numel() for each in modules for parameter in each.parameters()),
        input=config.input or _input(model),
        context_length=int(context) if context is not None else None,
        logit_scale=_logit_scale(model),
        options={key: json.dumps(value, sort_keys=True) for key, value in config.options.items()},
    )


def _modules(model: object) -> list[nn.Module]:
    return [value for value in getattr(model, "__dict__", {}).values() if isinstance(value, nn.Module)]


def _input(model: object) -> InputSpec | None:
    spec = getattr(model, "input", None)
    if spec is not None and not isinstance(spec, InputSpec):
        msg = f"`input` of the factory's object must be an InputSpec; got {type(spec).__name__}."
        raise TeacherError(msg)
    return spec


def _logit_scale(model: object) -> float | None:
    scale = getattr(model, "logit_scale", None)
    if scale is None or isinstance(scale, float | int):
        return scale
    # A parameter of that name is usually the logarithm; nothing tells which.
    msg = (
        f"`logit_scale` of the factory's object must be a float, exponentiated; got {type(scale).__name__}. "
        "Make it a float, or call the parameter something else."
    )
    raise TeacherError(msg)


@contextmanager
def _import_path(base: Path) -> Iterator[None]:
    entry = str(base.resolve())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)


def _import(name: str, *, base: Path) -> ModuleType:
    root = name.split(".")[0]
    beside = [base / f"{root}.py", base / root / "__init__.py"]
    loaded = sys.modules.get(root)
    origin = getattr(loaded, "__file__", None)
    if loaded is not None and any(path.is_file() and str(path.resolve()) != origin for path in beside):
        # A module of the same name from another recipe's folder must not answer for this one.
        for known in [key for key in sys.modules if key == root or key.startswith(f"{root}.")]:
            del sys.modules[known]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        msg = (
            f"`factory` must name a module beside the recipe or an installed one; got {name!r}. "
            "Look for a misspelling."
        )
        raise TeacherError(msg) from error


def _state_hash(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, torch.Tensor):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
