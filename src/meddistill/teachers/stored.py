"""Teachers of whom there is only a feature store: a card, and no model to ask."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from meddistill.errors import TeacherError
from meddistill.file_kinds import unreadable
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import StoredTeacher
from meddistill.teachers.frozen import FrozenTeacher


class StoredVectors:
    """Stands where a model would; whoever asks it anything is told to read the store."""

    only_stored = True

    def embed_images(self, pixels: Tensor) -> Tensor:  # noqa: ARG002
        """Raises TeacherError."""
        raise TeacherError(_SILENT)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:  # noqa: ARG002
        """Raises TeacherError."""
        raise TeacherError(_SILENT)


_SILENT = "it must be read from its feature store; of kind `stored`, it has no weights."


def load_stored(name: str, config: StoredTeacher, *, base: Path) -> FrozenTeacher:
    """The teacher with the card that its store keeps, and the licence and modalities of the recipe.

    Raises
    ------
    TeacherError
        If there is no such teacher in the store.
    """
    path = base / config.store / "teachers" / name / "manifest.json"
    try:
        card = TeacherCard.model_validate(json.loads(path.read_bytes())["content"]["card"])
    except PermissionError as refusal:
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise TeacherError(msg) from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        msg = (
            f"`store` must be a feature store that holds a teacher {name!r}; got `{config.store}`, which "
            f"does not. See what it holds with `meddistill features stats {config.store}`."
        )
        raise TeacherError(msg) from None
    stated = {"licence": config.terms, "modalities": config.modalities}
    if config.pretraining_data:
        stated["pretraining_data"] = config.pretraining_data
    return FrozenTeacher(StoredVectors(), card=card.model_copy(update=stated))
