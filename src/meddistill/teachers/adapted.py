"""What every adapter hands over, and what several of them need on the way."""

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from meddistill.errors import TeacherError
from meddistill.file_kinds import absent, why_not_json
from meddistill.imaging.geometry import InputSpec, Interpolation
from meddistill.imaging.published import known_interpolation
from meddistill.signals import Signal


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A library's model behind the teacher protocols, and what the card must know of it.

    `model` satisfies protocols of `teachers/protocols.py`; the fields are those of `TeacherCard`. `optional`
    are signals that the library may or may not have for this model: a trial tells, and one that fails is
    left out of the card.
    """

    model: object
    source: str
    library: str
    weights_sha256: str
    parameters: int
    revision: str | None = None
    tokenizer_sha256: str | None = None
    input: InputSpec | None = None
    centre_crop: tuple[int, int] | None = None
    context_length: int | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[Signal] = frozenset()


@functools.cache
def version_of(distribution: str) -> str:
    """`name version` of an installed library."""
    return f"{distribution} {importlib.metadata.version(distribution)}"


def count_parameters(module: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def interpolation_of(name: object) -> Interpolation:
    """The resampling by the name or PIL number that a library gives it; TeacherError for any other."""
    interpolation = known_interpolation(name)
    if interpolation is None:
        msg = (
            f"`interpolation` of the published preprocessing must be bilinear or bicubic; got {name!r}. "
            "Give the teacher an `input` of its own."
        )
        raise TeacherError(msg)
    return interpolation


def read_json(path: Path, *, what: str) -> dict[str, Any]:
    """A JSON object from a model's folder; raises TeacherError when it is absent or none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        linked = f" but {absent(path).what}" if path.is_symlink() else ""
        rule = f"must hold {path.name} ({what}); it does not{linked}"
        msg = f"`{path.parent.name}` {rule}. Copy the whole folder, with what its links lead to."
        raise TeacherError(msg) from None
    except (ValueError, OSError, RecursionError) as error:
        msg = f"`{path.name}` must be readable JSON ({what}); got {why_not_json(path, error)}"
        raise TeacherError(msg) from None
    if not isinstance(content, dict):
        got = type(content).__name__
        msg = f"`{path.name}` must hold a JSON object ({what}); got {got}. Take the one beside the weights."
        raise TeacherError(msg)
    return content


def tokenizer_hash(tokenizer: Any, *, settings: Mapping[str, Any]) -> str:
    """SHA-256 of a Hugging Face tokenizer's whole state, with the settings it is called with.

    Fast tokenizers give their serialised form, others their class and vocabulary.
    """
    if getattr(tokenizer, "is_fast", False):
        state = tokenizer.backend_tokenizer.to_str()
    else:
        state = json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()], sort_keys=True)
    text = json.dumps(settings, sort_keys=True, default=str) + "\n" + state
    return hashlib.sha256(text.encode()).hexdigest()
