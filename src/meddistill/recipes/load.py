"""A recipe from its file: overrides and smoke applied, schema checked, every mistake at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.mistakes import of_teacher
from meddistill.recipes.schema import Recipe
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import Plain, apply_overrides, apply_smoke, apply_values, read_yaml
from meddistill.teachers.config import RecipeTeacher

PACKAGED: Final = Path(str(files("meddistill.recipes")))
_SUITES: Final = "suites"


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe, its suite, the folder at which their relative paths start, and the recipes of its teachers
    of kind `recipe`, by teacher. `command` repeats its run, where it is known.
    """

    recipe: Recipe
    suite: SuiteConfig | None
    base: Path
    suite_base: Path
    teachers: Mapping[str, "LoadedRecipe"] = field(default_factory=dict)
    command: str | None = None

    def as_yaml(self) -> str:
        """The recipe with every default written out."""
        content = self.recipe.model_dump(mode="json", exclude={"smoke"})
        return dump_yaml(content, width=100)


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe on disk and how it is to be read.

    `values` are what another recipe sets in it, `within` the files of the recipes whose teacher it is, from
    the outermost.
    """

    path: Path
    base: Path
    overrides: Sequence[str] = ()
    smoke: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)
    within: tuple[Path, ...] = ()

    def content(self) -> Plain:
        """The recipe as plain values: what another one sets, then the smoke dial, then the overrides."""
        content = apply_values(read_yaml(self.path), self.values)
        if self.smoke and not content.get("smoke") and not self.within:
            rule = "`smoke` must name what `--smoke` changes; got nothing."
            remedy = "Give the recipe such a section (`smoke: {stages.0.epochs: 1}`), or leave `--smoke` out."
            raise ConfigError(str(self.path), [f"{rule} {remedy}"])
        return apply_overrides(apply_smoke(content) if self.smoke else content, self.overrides)

    def teacher(self, config: RecipeTeacher) -> "RecipeFile":
        """The recipe of one of its teachers. Raises ConfigError for one that leads back to a recipe above."""
        named = self.base / config.recipe
        packaged = None if named.exists() else _packaged(Path(config.recipe))
        path, base = (named, named.parent.resolve()) if packaged is None else (packaged, self.base)
        within = (*self.within, self.path.resolve())
        if path.resolve() in within:
            chain = " → ".join(each.name for each in (*within, path))
            rule = f"`recipe` must not lead back to a recipe that needs this teacher; got {chain}."
            raise ConfigError(str(path), [f"{rule} Name another recipe."])
        return RecipeFile(path=path, base=base, smoke=self.smoke, values=config.set, within=within)


def load_recipe(
    path: Path, *, overrides: Sequence[str] = (), smoke: bool = False, base: Path | None = None
) -> LoadedRecipe:
    """The recipe at `path`; relative paths start at `base`, by default the recipe's folder.

    Raises ConfigError with every mistake of the recipe, of its suite and of its teachers' recipes.
    """
    path, folder = located(path, base)
    return load_file(RecipeFile(path=path, base=folder, overrides=overrides, smoke=smoke))


def located(path: Path, base: Path | None = None) -> tuple[Path, Path]:
    """The recipe's file and the folder at which its relative paths start: `base`, else the recipe's own.

    A bare name of a recipe that comes with MedDistill names that one, where there is no file of that name;
    its paths start at the working directory.
    """
    packaged = None if path.exists() else _packaged(path)
    if packaged is not None:
        return packaged, (base or Path()).resolve()
    return path, (base or path.parent).resolve()


def _packaged(path: Path) -> Path | None:
    """The recipe that comes with MedDistill under a bare name."""
    packaged = PACKAGED / f"{path.name}.yaml"
    return packaged if len(path.parts) == 1 and not path.suffix and packaged.is_file() else None


def load_file(file: RecipeFile) -> LoadedRecipe:
    """As `load_recipe`, of a recipe that another one may name."""
    content = file.content()
    mistakes: list[str] = []
    recipe = _collect(lambda: validated(Recipe, content, subject=str(file.path)), mistakes)
    suite, suite_base = _load_suite(content.get("evaluate"), file.base, mistakes)
    teachers = {} if recipe is None else _load_teachers(file, recipe, mistakes)
    if recipe is None or mistakes:
        raise ConfigError(str(file.path), mistakes)
    return LoadedRecipe(recipe=recipe, suite=suite, base=file.base, suite_base=suite_base, teachers=teachers)


def _load_teachers(file: RecipeFile, recipe: Recipe, mistakes: list[str]) -> dict[str, LoadedRecipe]:
    entries = {name: each for name, each in recipe.teachers.items() if isinstance(each, RecipeTeacher)}
    return {
        name: _collect(lambda entry=entry: load_file(file.teacher(entry)), mistakes, of=of_teacher(name, ""))
        for name, entry in entries.items()
    }


def _load_suite(evaluate: Any, folder: Path, mistakes: list[str]) -> tuple[SuiteConfig | None, Path]:
    place = evaluate.get("suite") if isinstance(evaluate, dict) else None
    if not isinstance(place, str):
        return None, folder
    path = folder / place
    base = path.parent
    if not path.exists() and Path(place).parts[:-1] == (_SUITES,) and (PACKAGED / place).is_file():
        path, base = PACKAGED / place, folder
    suite = _collect(
        lambda: validated(SuiteConfig, read_yaml(path), subject=str(path)), mistakes, of="`evaluate.suite`: "
    )
    return suite, base


def _collect(build: Any, mistakes: list[str], *, of: str = "") -> Any:
    try:
        return build()
    except ConfigError as error:
        mistakes.extend(f"{of}{line}" for line in error.mistakes)
        return None
