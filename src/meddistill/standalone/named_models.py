"""What models the words of a command line name: runs, students, bundles, open_clip models, lists of models.

Nothing is loaded, and no library of models either: mistakes are told in a second.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from pydantic import model_validator

from meddistill import bundle_format
from meddistill.errors import ConfigError
from meddistill.features.files import MANIFEST
from meddistill.files import printable
from meddistill.recipes.baselines import BaselineConfig, StudentFolder
from meddistill.recipes.mistakes import Mistakes
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import read_yaml
from meddistill.strict import Strict
from meddistill.students.metadata import METADATA_FILE
from meddistill.teachers.config import OpenClipTeacher, TeacherConfig

_SUBJECT: Final = "models"
_PREFIXES: Final = ("hf-hub:", "local-dir:")
_YAML: Final = (".yaml", ".yml")
_NAMED: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_. -]{0,63})=(.+)")
_OPEN_CLIP: Final = "open_clip_config.json"


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle in a folder."""

    folder: Path


@dataclass(frozen=True, kw_only=True)
class Student:
    """A student in a folder."""

    folder: Path


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model by its entry, whose relative paths start at `base`; `frozen` if no student learnt from it."""

    config: TeacherConfig
    base: Path = Path()
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model that was found under its name; `train_overlap` is the feature store that it learnt from, where
    that is known.
    """

    name: str
    model: Bundle | Student | Listed
    train_overlap: Path | None = None


class ModelList(Strict):
    """A file of models, with the same entries as in a recipe: `teachers` and `baselines`."""

    teachers: Mapping[str, TeacherConfig] = {}
    """Name → model."""
    baselines: Mapping[str, BaselineConfig] = {}
    """Name → a frozen model that no student learnt from, or the folder of a student."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.teachers and not self.baselines:
            msg = "`teachers` or `baselines` must name a model at least; got none"
            raise ValueError(msg)
        return self


def find_models(words: Sequence[str]) -> list[NamedModel]:
    """What `words` name, in their order.

    A word is a run folder, a student or bundle in a folder, an open_clip folder or id (`hf-hub:`,
    `local-dir:`), a YAML file of `teachers`, or one of the folders and ids with a name before it, NAME=PLACE.

    Raises ConfigError with every word that names nothing, and every name that stands twice.
    """
    models, mistakes = [], Mistakes()
    for word in words:
        models += mistakes.catch(partial(_models_of, word)) or []
    names = [each.name for each in models]
    for name in sorted({name for name in names if names.count(name) > 1}):
        mistakes.lines.append(f"`{name}` must name one model; got it twice. Rename one by NAME=MODEL.")
    if mistakes.lines or not models:
        raise ConfigError(_SUBJECT, mistakes.lines or ["a model must be given; got none."])
    return models


def _models_of(word: str) -> list[NamedModel]:
    given, place = _split(word)
    if Path(place).suffix in _YAML or Path(place).is_file():
        if given is not None:
            rule = f"`{word}` must have no name before it: a list of models has names of its own."
            raise ConfigError(_SUBJECT, [rule])
        return list(_listed(Path(place)))
    name = printable(given) if given else _name_of(place)
    if place.startswith(_PREFIXES):
        return [NamedModel(name=name, model=Listed(config=OpenClipTeacher(kind="open_clip", model=place)))]
    return [_in_folder(name, Path(place))]


def _in_folder(name: str, folder: Path) -> NamedModel:
    train_store = _training_store(folder)
    if _is_bundle(folder):
        return NamedModel(name=name, model=Bundle(folder=folder), train_overlap=train_store)
    for place in (folder, RunFolder(folder).student):
        if (place / METADATA_FILE).is_file():
            return NamedModel(name=name, model=Student(folder=place), train_overlap=train_store)
    if (folder / _OPEN_CLIP).is_file():
        config = OpenClipTeacher(kind="open_clip", model=f"local-dir:{folder.resolve()}")
        return NamedModel(name=name, model=Listed(config=config))
    rule = (
        f"`{folder}` must be a run folder with a student, a student, a bundle, an open_clip folder, a YAML "
        "file of models, hf-hub:ID or local-dir:FOLDER; it is none of them. Check the path."
    )
    raise ConfigError(_SUBJECT, [rule])


def _listed(path: Path) -> Iterator[NamedModel]:
    models = validated(ModelList, read_yaml(path), subject=str(path))
    for name, config in models.teachers.items():
        yield NamedModel(name=name, model=Listed(config=config, base=path.parent))
    for name, entry in models.baselines.items():
        if isinstance(entry, StudentFolder):
            yield _in_folder(name, path.parent / entry.folder)
        else:
            yield NamedModel(name=name, model=Listed(config=entry, base=path.parent, frozen=True))


def _training_store(place: Path) -> Path | None:
    """The feature store that a model at `place` learnt from: a run folder's, its student's, its bundle's.

    None where no run folder is about it. A store that lies outside the run folder is not found.
    """
    about = RunFolder(place.resolve().parent)
    runs = [RunFolder(place)]
    if place.resolve() in (about.student, about.bundle):
        runs.append(about)
    return next((run.features for run in runs if (run.features / MANIFEST).is_file()), None)


def _split(word: str) -> tuple[str | None, str]:
    """The name before `=`, where there is one and the whole is no path."""
    named = None if Path(word).exists() else _NAMED.fullmatch(word)
    return (named[1], named[2]) if named else (None, word)


def _name_of(place: str) -> str:
    """The last part of a path or an id."""
    plain = place.partition(":")[2] if place.startswith(_PREFIXES) else place
    return printable(Path(plain).resolve().name)


def _is_bundle(folder: Path) -> bool:
    try:
        content: Any = json.loads((folder / bundle_format.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == bundle_format.FORMAT
