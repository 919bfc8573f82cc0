"""A recipe from its file: overrides and smoke applied, schema checked, every mistake at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.schema import Recipe
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import Plain, apply_overrides, apply_smoke, read_yaml

PACKAGED: Final = Path(str(files("meddistill.recipes")))
_SUITES: Final = "suites"


@dataclass(frozen=True, kw_only=True)
class LoadedRecipe:
    """A recipe, its suite, and the folder at which their relative paths start."""

    recipe: Recipe
    suite: SuiteConfig | None
    base: Path
    suite_base: Path

    def as_yaml(self) -> str:
        """The recipe with every default written out."""
        content = self.recipe.model_dump(mode="json", exclude={"smoke"})
        return dump_yaml(content, width=100)


def load_recipe(
    path: Path, *, overrides: Sequence[str] = (), smoke: bool = False, base: Path | None = None
) -> LoadedRecipe:
    """The recipe at `path`; relative paths start at `base`, by default the recipe's folder.

    Raises ConfigError with every mistake of the recipe and of its suite.
    """
    path, folder = located(path, base)
    content = read_content(path, overrides=overrides, smoke=smoke)
    mistakes: list[str] = []
    recipe = _collect(lambda: validated(Recipe, content, subject=str(path)), mistakes)
    suite, suite_base = _load_suite(content.get("evaluate"), folder, mistakes)
    if recipe is None or mistakes:
        raise ConfigError(str(path), mistakes)
    return LoadedRecipe(recipe=recipe, suite=suite, base=folder, suite_base=suite_base)


def located(path: Path, base: Path | None = None) -> tuple[Path, Path]:
    """The recipe's file and the folder at which its relative paths start: `base`, else the recipe's own.

    A bare name of a recipe that comes with MedDistill names that one, where there is no file of that name;
    its paths start at the working directory.
    """
    packaged = PACKAGED / f"{path.name}.yaml"
    if len(path.parts) == 1 and not path.suffix and not path.exists() and packaged.is_file():
        return packaged, (base or Path()).resolve()
    return path, (base or path.parent).resolve()


def read_content(path: Path, *, overrides: Sequence[str], smoke: bool) -> Plain:
    """The recipe as plain values, the smoke dial and the overrides applied."""
    content = read_yaml(path)
    return apply_overrides(apply_smoke(content) if smoke else content, overrides)


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
