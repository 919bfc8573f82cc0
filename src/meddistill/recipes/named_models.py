"""Models by the words of a command line: runs, students, bundles, open_clip models, lists of models."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field

from meddistill.errors import ConfigError, MissingWeights, TeacherError
from meddistill.evaluation.embedders import ModelEmbedder, load_student_as_teacher
from meddistill.evaluation.predict import Embedder, Role
from meddistill.recipes.bundle_embedder import BundleEmbedder
from meddistill.recipes.learnt import learnt_images
from meddistill.recipes.missing import told
from meddistill.recipes.mistakes import Mistakes
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import read_yaml
from meddistill.report.data import ModelCard
from meddistill.runtime.manifest import FORMAT
from meddistill.students.metadata import METADATA_FILE
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import OpenClipTeacher, TeacherConfig
from meddistill.teachers.load import load_teacher

_SUBJECT: Final = "models"
_PREFIXES: Final = ("hf-hub:", "local-dir:")
_YAML: Final = (".yaml", ".yml")
_NAMED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_. -]{0,63})=(.+)")
_OPEN_CLIP: Final = "open_clip_config.json"
_NOT_ID: Final = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model that is ready to be evaluated, and what the report says of it."""

    embedder: Embedder
    card: ModelCard


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model that was found under its name but is not loaded.

    `is_student`: one that this tool trained; `learnt_images` is the feature store that it learnt from, where
    that is known.
    """

    name: str
    is_student: bool
    load: Callable[[Role], Judged]
    learnt_images: Path | None = None


class ModelList(BaseModel):
    """A file of models: `teachers`, with the same entries as in a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teachers: Mapping[str, TeacherConfig] = Field(min_length=1)
    """Name → model."""


def find_models(words: Sequence[str], *, device: torch.device, batch_size: int = 64) -> list[Candidate]:
    """What `words` name, in their order. Nothing is loaded yet.

    A word is a run folder, a student or bundle in a folder, an open_clip folder or id (`hf-hub:`,
    `local-dir:`), a YAML file of `teachers`, or one of the folders and ids with a name before it, NAME=PLACE.

    Raises ConfigError with every word that names nothing, and every name that stands twice.
    """
    found, mistakes = [], Mistakes()
    for word in words:
        models = mistakes.catch(partial(_models_of, word, device=device, batch_size=batch_size))
        found += models or []
    names = [each.name for each in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        mistakes.lines.append(f"`{name}` must name one model; got it twice. Rename one by NAME=MODEL.")
    if mistakes.lines or not found:
        raise ConfigError(_SUBJECT, mistakes.lines or ["a model must be given; got none."])
    return found


def load_models(candidates: Sequence[Candidate], *, student: str | None) -> list[Judged]:
    """All models, `student` (by default the first) as the one that the others are compared with.

    Other students are baselines, all else are teachers. Raises ConfigError with every model that cannot be
    loaded.
    """
    names = [each.name for each in candidates]
    reference = names[0] if student is None else student
    if reference not in names:
        rule = f"`--student` must be one of {', '.join(names)}; got {student!r}."
        raise ConfigError(_SUBJECT, [rule])
    mistakes = Mistakes()
    loaded = []
    for each in candidates:
        other: Role = "baseline" if each.is_student else "teacher"
        role: Role = "student" if each.name == reference else other
        loaded.append(mistakes.catch(partial(each.load, role)))
    if mistakes.lines:
        raise ConfigError(_SUBJECT, mistakes.lines)
    return [each for each in loaded if each is not None]


def _models_of(word: str, *, device: torch.device, batch_size: int) -> list[Candidate]:
    given, place = _split(word)
    if Path(place).suffix in _YAML:
        if given is not None:
            rule = f"`{word}` must have no name before it: a list of models has names of its own."
            raise ConfigError(_SUBJECT, [rule])
        return list(_listed(Path(place), device=device, batch_size=batch_size))
    name = given or _name_of(place)
    if place.startswith(_PREFIXES):
        config = OpenClipTeacher(kind="open_clip", model=place)
        load = partial(_load_config, name, config, Path(), device=device, batch_size=batch_size)
        return [Candidate(name=name, is_student=False, load=load)]
    return [_in_folder(name, Path(place), device=device, batch_size=batch_size)]


def _in_folder(name: str, folder: Path, *, device: torch.device, batch_size: int) -> Candidate:
    run = RunFolder(folder)
    learnt = learnt_images(folder)
    if _is_bundle(folder):
        bundle = partial(_load_bundle, name, folder, batch_size=batch_size)
        return Candidate(name=name, is_student=True, load=bundle, learnt_images=learnt)
    for place in (folder, run.student):
        if (place / METADATA_FILE).is_file():
            load = partial(_load_student, name, place, device=device, batch_size=batch_size)
            return Candidate(name=name, is_student=True, load=load, learnt_images=learnt)
    if (folder / _OPEN_CLIP).is_file():
        config = OpenClipTeacher(kind="open_clip", model=f"local-dir:{folder.resolve()}")
        load = partial(_load_config, name, config, Path(), device=device, batch_size=batch_size)
        return Candidate(name=name, is_student=False, load=load)
    rule = (
        f"`{folder}` must be a run folder with a student, a student, a bundle, an open_clip folder, a YAML "
        "file of models, hf-hub:ID or local-dir:FOLDER; it is none of them. Check the path."
    )
    raise ConfigError(_SUBJECT, [rule])


def _listed(path: Path, *, device: torch.device, batch_size: int) -> Iterator[Candidate]:
    models = validated(ModelList, read_yaml(path), subject=str(path))
    for name, config in models.teachers.items():
        load = partial(_load_config, name, config, path.parent, device=device, batch_size=batch_size)
        yield Candidate(name=name, is_student=False, load=load)


def _load_config(
    name: str, config: TeacherConfig, base: Path, role: Role, *, device: torch.device, batch_size: int
) -> Judged:
    try:
        teacher = load_teacher(_NOT_ID.sub("_", name), config, base=base).to(device)
    except MissingWeights as error:
        raise TeacherError(told(name, config, error)) from None
    embedder = ModelEmbedder(teacher, name=name, role=role, batch_size=batch_size)
    return Judged(embedder=embedder, card=_shown(name, role, teacher.card))


def _load_student(name: str, folder: Path, role: Role, *, device: torch.device, batch_size: int) -> Judged:
    teacher = load_student_as_teacher(folder).to(device)
    embedder = ModelEmbedder(teacher, name=name, role=role, batch_size=batch_size)
    return Judged(embedder=embedder, card=_shown(name, role, teacher.card))


def _load_bundle(name: str, folder: Path, role: Role, *, batch_size: int) -> Judged:
    embedder = BundleEmbedder(folder, name=name, role=role, batch_size=batch_size)
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
    return Judged(embedder=embedder, card=card)


def _shown(name: str, role: Role, card: TeacherCard) -> ModelCard:
    return ModelCard(
        name=name,
        role=role,
        source=card.source,
        licence=card.licence,
        parameters=card.parameters,
        input_size=(card.input.height, card.input.width) if card.input else None,
        embed_dim=card.image_dim,
        context_length=card.context_length,
        modalities=card.modalities,
        pretraining_data=card.pretraining_data,
    )


def _split(word: str) -> tuple[str | None, str]:
    """The name before `=`, where there is one and the whole is no path."""
    named = None if Path(word).exists() else _NAMED.fullmatch(word)
    return (named[1], named[2]) if named else (None, word)


def _name_of(place: str) -> str:
    """The last part of a path or an id."""
    plain = place.partition(":")[2] if place.startswith(_PREFIXES) else place
    return Path(plain).resolve().name


def _is_bundle(folder: Path) -> bool:
    try:
        content: Any = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
