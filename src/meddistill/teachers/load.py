"""From a recipe's words to a frozen teacher: load, try once, write the card."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch

from meddistill.errors import MissingExtra, TeacherError
from meddistill.teachers.adapted import Adapted
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import StoredTeacher, TeacherConfig
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.protocols import capabilities_of
from meddistill.teachers.stored import load_stored

_ADAPTERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        kind: f"meddistill.teachers.{kind}_adapter"
        for kind in ("open_clip", "transformers", "timm", "onnx", "pmc_clip", "medclip", "python")
    }
)
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_COMPARE: Final = "Compare its files with the model's page, and `kind` with the library that saved it."
_REMEDY: Final[Mapping[str, str]] = MappingProxyType({"python": "Mend the factory or its `options`."})
_TRIAL_TEXT: Final = "chest x-ray"


def load_teacher(id: str, config: TeacherConfig, *, base: Path) -> FrozenTeacher:
    """Load the teacher that a recipe calls `id`, and try it on one grey image and one text.

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
        msg = (
            f"teacher {id!r}: {config.kind} could not load or run it ({type(error).__name__}: "
            f"{_one_line(error)}). {_REMEDY.get(config.kind, _COMPARE)}"
        )
        raise TeacherError(msg) from error


def _adapter(kind: str) -> Any:
    try:
        return importlib.import_module(_ADAPTERS[kind])
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or kind, "train") from error


def _frozen(name: str, config: TeacherConfig, adapted: Adapted) -> FrozenTeacher:
    capabilities = capabilities_of(adapted.model)
    if adapted.input is None and capabilities - {"text_embedding", "text_tokens"}:
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
        capabilities=capabilities,
        modalities=config.modalities,
        pretraining_data=config.pretraining_data,
        options=adapted.options,
        parameters=adapted.parameters,
    )
    return _tried(FrozenTeacher(adapted.model, card=card))


def _tried(teacher: FrozenTeacher) -> FrozenTeacher:
    """The teacher with the widths of its outputs on the card."""
    card, dims = teacher.card, {}
    if card.input is not None:
        grey = torch.full((1, card.input.height, card.input.width, 3), 128, dtype=torch.uint8)
        if "image_embedding" in card.capabilities:
            dims["image_dim"] = teacher.image_embeddings(grey).shape[1]
        if "patch_tokens" in card.capabilities:
            dims["patch_dim"] = teacher.patch_tokens(grey).tokens.shape[2]
    if "text_embedding" in card.capabilities:
        dims["text_dim"] = teacher.text_embeddings([_TRIAL_TEXT]).shape[1]
    return teacher.with_card(card.model_copy(update=dims))


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "…"
