"""From a recipe's words to a frozen teacher: load, try once, write the card."""

import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor

from meddistill.errors import MissingExtra, TeacherError, one_line
from meddistill.signals import Signal
from meddistill.teachers.adapted import Adapted
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import StoredTeacher, TeacherConfig
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.protocols import signals_of
from meddistill.teachers.sources import find_folder
from meddistill.teachers.stored import load_stored
from meddistill.weight_formats import pointers_in

_ADAPTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        kind: f"meddistill.teachers.{kind}_adapter"
        for kind in ("open_clip", "transformers", "timm", "onnx", "pmc_clip", "medclip", "python")
    }
)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_COMPARE: Final = "Compare its files with the model's page, and `kind` with the library that saved it."
_REMEDY: Final[Mapping[str, str]] = MappingProxyType({"python": "Mend the factory or its `options`."})
_RENAME: Final = "Rename its files: the library takes names in UTF-8 only."
_TRIAL_TEXTS: Final = ("chest x-ray", "a chest x-ray without a sign of pneumonia")


def load_teacher(id: str, config: TeacherConfig, *, base: Path) -> FrozenTeacher:
    """Load the teacher that a recipe calls `id`, and try it on one grey image and two texts.

    Parameters
    ----------
    id
        Letters, digits, `_`, `.`, `-`; names the teacher's folder in a feature store.
    config
        Its entry in the recipe.
    base
        The recipe's folder, where relative paths start.

    Raises
    ------
    TeacherError
        If anything is missing, damaged, of another shape than the library expects, or gives numbers that
        are not finite. The message names the teacher and what to do.
    """
    if not _ID.fullmatch(id):
        msg = f"a teacher's id must be letters, digits, `_`, `.` or `-`, at most 64; got {id!r}. Rename it."
        raise TeacherError(msg)
    try:
        if isinstance(config, StoredTeacher):
            return load_stored(id, config, base=base)
        adapted = _adapter(config.kind).adapt(config, base=base)
        return _frozen(id, config, adapted)
    except TeacherError as error:
        msg = f"teacher {id!r}: {error}"
        raise type(error)(msg) from error
    except MissingExtra:
        raise
    except Exception as error:  # at the border of other libraries, each with its own exceptions
        do = _RENAME if isinstance(error, UnicodeEncodeError) else _REMEDY.get(config.kind, _COMPARE)
        msg = (
            f"teacher {id!r}: {config.kind} could not load or run it ({type(error).__name__}: "
            f"{one_line(error)}). {_pointers(config, base) or do}"
        )
        raise TeacherError(msg) from error


def _adapter(kind: str) -> Any:
    try:
        return importlib.import_module(_ADAPTERS[kind])
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or kind, "train") from error


def _frozen(name: str, config: TeacherConfig, adapted: Adapted) -> FrozenTeacher:
    signals = signals_of(adapted.model)
    if adapted.input is None and signals - {"text", "text_tokens"}:
        msg = "`input` must be given for a teacher that sees images: size, resize, mean, std."
        raise TeacherError(msg)
    card = TeacherCard(
        id=name,
        kind=config.kind,
        source=adapted.source,
        revision=adapted.revision,
        library=adapted.library,
        weights_sha256=adapted.weights_sha256,
        tokenizer_sha256=adapted.tokenizer_sha256,
        licence=config.terms,
        input=adapted.input,
        centre_crop=adapted.centre_crop,
        context_length=adapted.context_length,
        logit_scale=adapted.logit_scale,
        logit_bias=adapted.logit_bias,
        precision=config.precision,
        signals=signals,
        modalities=config.modalities,
        pretraining_data=config.pretraining_data,
        options=adapted.options,
        parameters=adapted.parameters,
    )
    return _tried(FrozenTeacher(adapted.model, card=card), adapted.optional)


def _tried(teacher: FrozenTeacher, optional: frozenset[Signal]) -> FrozenTeacher:
    """The teacher with the widths of its outputs on the card, without optional ones that it fails to give."""
    card = teacher.card
    dims: dict[Signal, int] = {}
    failed: dict[Signal, str] = {}
    for signal, trial in _TRIALS.items():
        if signal not in card.signals:
            continue
        try:
            dim = trial(teacher)
        except TeacherError as error:
            if signal not in optional:
                raise
            failed[signal] = str(error)
            continue
        if dim is not None:
            dims[signal] = dim
    left = frozenset(card.signals - failed.keys())
    return teacher.with_card(card.model_copy(update={"dims": dims, "signals": left}), failed=failed)


def _grey(teacher: FrozenTeacher) -> Tensor:
    spec = teacher.card.input
    size = (1, 1) if spec is None else (spec.height, spec.width)
    return torch.full((1, *size, 3), 128, dtype=torch.uint8)


def _try_text_tokens(teacher: FrozenTeacher) -> None:
    """Their width does not stand on a card."""
    teacher.text_tokens(_TRIAL_TEXTS)


_TRIALS: Final[Mapping[Signal, Callable[[FrozenTeacher], int | None]]] = {
    "image": lambda teacher: teacher.image_embeddings(_grey(teacher)).shape[1],
    "patches": lambda teacher: teacher.patch_tokens(_grey(teacher)).tokens.shape[2],
    "text": lambda teacher: teacher.text_embeddings(_TRIAL_TEXTS).shape[1],
    "text_tokens": _try_text_tokens,
}


def _pointers(config: TeacherConfig, base: Path) -> str:
    """What helps where a folder was cloned without its large files; "" where it was not."""
    named = getattr(config, "model", None)
    try:
        folder = find_folder(str(named), base=base, revision=None, local_only=True).folder if named else None
    except TeacherError:
        return ""
    names = [] if folder is None else pointers_in(folder)
    if not names:
        return ""
    return (
        f"Of its files {', '.join(names[:5])} are pointers of Git or empty: fetch them with `git lfs pull`."
    )
