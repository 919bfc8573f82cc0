"""The models of an evaluation, loaded."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch

from meddistill.errors import ConfigError, MissingWeights, TeacherError
from meddistill.evaluation.models.protocols import Embedder, Role
from meddistill.evaluation.models.torch_models import ModelEmbedder, load_student_as_teacher
from meddistill.recipes.missing import missing_weights_message
from meddistill.recipes.mistakes import Mistakes
from meddistill.report.data import ModelCard
from meddistill.standalone.bundle_embedder import BundleEmbedder
from meddistill.standalone.named_models import Bundle, Listed, NamedModel, Student
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

_SUBJECT: Final = "models"
_BATCH: Final = 64
_NOT_ID: Final = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to be evaluated, and what the report says of it."""

    embedder: Embedder
    card: ModelCard


def load_models(models: Sequence[NamedModel], *, student: str, device: torch.device) -> list[LoadedModel]:
    """All models, `student` as the one that the others are compared with.

    Other students and bundles are baselines, listed models frozen or teachers, as listed.

    Raises ConfigError with every model that cannot be loaded.
    """
    mistakes = Mistakes()
    loaded = []
    for each in models:
        role: Role = "student" if each.name == student else _role(each.model)
        loaded.append(mistakes.catch(partial(_load, each, role, device)))
    if mistakes.lines:
        raise ConfigError(_SUBJECT, mistakes.lines)
    return [each for each in loaded if each is not None]


def _role(model: Bundle | Student | Listed) -> Role:
    if not isinstance(model, Listed):
        return "baseline"
    return "frozen" if model.frozen else "teacher"


def _load(named: NamedModel, role: Role, device: torch.device) -> LoadedModel:
    match named.model:
        case Bundle():
            return _bundle(named.name, named.model, role)
        case Student():
            return _shown(named.name, role, load_student_as_teacher(named.model.folder).to(device))
        case Listed():
            return _shown(named.name, role, _listed(named.name, named.model).to(device))


def _listed(name: str, model: Listed) -> FrozenTeacher:
    try:
        return load_teacher(_NOT_ID.sub("_", name), model.config, base=model.base)
    except MissingWeights as error:
        raise TeacherError(missing_weights_message(name, model.config, error)) from None


def _bundle(name: str, model: Bundle, role: Role) -> LoadedModel:
    embedder = BundleEmbedder(model.folder, name=name, role=role, batch_size=_BATCH)
    manifest, spec = embedder.bundle.manifest, embedder.bundle.preprocessing.input
    card = ModelCard(
        name=name,
        role=role,
        source=f"bundle {manifest.name} (embeddings of length 1)",
        licence=manifest.licence,
        input_size=(spec.height, spec.width),
        embed_dim=manifest.embed_dim,
        context_length=manifest.context_length,
        pretraining_data=embedder.pretraining_data,
    )
    return LoadedModel(embedder=embedder, card=card)


def _shown(name: str, role: Role, teacher: FrozenTeacher) -> LoadedModel:
    embedder = ModelEmbedder(teacher, name=name, role=role, batch_size=_BATCH)
    return LoadedModel(embedder=embedder, card=ModelCard.of(teacher.card, name=name, role=role))
