"""The parts of a recipe that breaks its schema, each looked at by itself: no mistake hides another."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError

from meddistill.data.config import TextTable, TrainingTableConfig
from meddistill.data.samples import Samples
from meddistill.data.unreadable import read_readable
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.licences import Policy, enforce
from meddistill.recipes.banks import read_banks
from meddistill.recipes.baselines import BaselineConfig
from meddistill.recipes.frozen_models import load_baselines, load_teachers
from meddistill.recipes.load import LoadedRecipe, RecipeFile, load_file, load_recipe, located
from meddistill.recipes.mistakes import Mistakes, of_teacher
from meddistill.recipes.tokenizer import trained_tokenizer
from meddistill.recipes.yaml_file import Plain, read_yaml
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.teachers.config import RecipeTeacher, TeacherEntry

_TABLE: Final[TypeAdapter[Any]] = TypeAdapter(TrainingTableConfig)
_BANK: Final[TypeAdapter[Any]] = TypeAdapter(str | TextTable)
_TEACHER: Final[TypeAdapter[Any]] = TypeAdapter(TeacherEntry)
_BASELINE: Final[TypeAdapter[Any]] = TypeAdapter(BaselineConfig)
_STUDENT: Final[TypeAdapter[Any]] = TypeAdapter(StudentConfig)
_SUITE: Final[TypeAdapter[Any]] = TypeAdapter(SuiteConfig)
LATER: Final = "Whether stages, teachers, banks and tables fit together is looked at once these are mended."


def load_for_check(path: Path, *, overrides: Sequence[str], smoke: bool) -> LoadedRecipe:
    """As `load_recipe`, but the ConfigError also has the mistakes of the recipe's readable parts."""
    try:
        return load_recipe(path, overrides=overrides, smoke=smoke)
    except ConfigError as error:
        mistakes = Mistakes()
        path, base = located(path)
        file = RecipeFile(path=path, base=base, overrides=overrides, smoke=smoke)
        content = _content(file)
        if content is None:
            raise
        _look_at(file, content, mistakes)
        lines = list(dict.fromkeys([*error.mistakes, *mistakes.lines]))
        remedy = "\n  ".join(filter(None, (mistakes.remedy, LATER)))
        raise ConfigError(error.subject, lines, remedy=remedy) from None


def _content(file: RecipeFile) -> Plain | None:
    try:
        return file.content()
    except ConfigError:  # which reading the whole has told already
        return None


def _look_at(file: RecipeFile, content: Plain, mistakes: Mistakes) -> None:
    base = file.base
    table = _read(_TABLE, _section(content, "data").get("train"))
    samples = None if table is None else mistakes.catch(lambda: read_readable(table, base=base))
    validation = _read(_TABLE, _section(content, "data").get("validation"))
    if validation is not None:
        mistakes.catch(lambda: read_readable(validation, base=base))
    places = _section(_section(content, "features"), "banks")
    read = {str(name): _read(_BANK, place) for name, place in places.items()}
    banks = read_banks({name: place for name, place in read.items() if place is not None}, base=base)
    mistakes.lines += banks.mistakes
    _look_at_teachers(content, file, mistakes)
    _look_at_baselines(content, base, mistakes)
    student = _read(_STUDENT, content.get("student"))
    if student is not None:
        mistakes.catch(partial(_build_student, student, samples, base))
    place = _section(content, "evaluate").get("suite")
    if isinstance(place, str):
        _look_at_suite(base / place, mistakes)


def _build_student(config: StudentConfig, samples: Samples | None, base: Path) -> None:
    size = config.text.vocabulary
    if size is not None and samples is None:  # whose mistakes are known already
        return
    tokenizer = None if samples is None or size is None else trained_tokenizer(samples, size)
    build_student(config, base=base, seed=0, tokenizer=tokenizer)


def _look_at_teachers(content: Mapping[str, Any], file: RecipeFile, mistakes: Mistakes) -> None:
    read = {str(name): _read(_TEACHER, entry) for name, entry in _section(content, "teachers").items()}
    for name, config in read.items():
        if isinstance(config, RecipeTeacher):
            _look_at_recipe_of(name, config, file, mistakes)
    configs = {
        name: each for name, each in read.items() if each is not None and not isinstance(each, RecipeTeacher)
    }
    mistakes.lines += load_teachers(configs, base=file.base).refusals
    policy = content.get("licence_policy", "research")
    if policy in get_args(Policy):
        terms = {name: config.terms for name, config in configs.items()}
        mistakes.catch(lambda: enforce(policy, terms, gate="extract"))


def _look_at_recipe_of(teacher: str, config: RecipeTeacher, file: RecipeFile, mistakes: Mistakes) -> None:
    inner = Mistakes()
    try:
        theirs = file.teacher(config)
        if (content := _content(theirs)) is not None:
            _look_at(theirs, content, inner)
        load_file(theirs)
    except ConfigError as error:
        inner.lines += error.mistakes
    mistakes.lines += [of_teacher(teacher, line) for line in inner.lines]
    mistakes.remedy = mistakes.remedy or inner.remedy


def _look_at_baselines(content: Mapping[str, Any], base: Path, mistakes: Mistakes) -> None:
    entries = _section(_section(content, "evaluate"), "baselines").items()
    read = {str(name): _read(_BASELINE, entry) for name, entry in entries}
    configs = {name: config for name, config in read.items() if config is not None}
    mistakes.lines += load_baselines(configs, base=base).refusals


def _look_at_suite(path: Path, mistakes: Mistakes) -> None:
    try:
        suite = _read(_SUITE, read_yaml(path))
    except ConfigError:
        return
    if suite is not None:
        mistakes.catch(lambda: check_tasks(suite, SuiteTables(suite, base=path.parent)))


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name)
    return section if isinstance(section, Mapping) else {}


def _read(adapter: TypeAdapter[Any], content: Any) -> Any:
    """The part as its model, without its unknown keys; None where it has other mistakes."""
    validate: Callable[[Any], Any] = adapter.validate_python
    try:
        return validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
    if not isinstance(content, Mapping) or any(each["type"] != "extra_forbidden" for each in details):
        return None
    unknown = {each["loc"][-1] for each in details}
    try:
        return validate({key: value for key, value in content.items() if key not in unknown})
    except ValidationError:
        return None
