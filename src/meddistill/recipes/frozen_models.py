"""The frozen models that a recipe names, loaded: its teachers, and what its student is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Final

from meddistill.errors import MedDistillError, MissingWeights
from meddistill.evaluation.models.protocols import Role
from meddistill.evaluation.models.torch_models import image_input, load_student_as_teacher
from meddistill.recipes.baselines import BaselineConfig, StudentFolder
from meddistill.recipes.missing import Missing, missing_teacher
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import save_student
from meddistill.students.metadata import Provenance
from meddistill.students.paths import resolve_path
from meddistill.teachers.config import RecipeTeacher, TeacherEntry
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

_PLACE: Final = "evaluate.baselines"
_NONE: Final[Mapping[str, Callable[[], FrozenTeacher]]] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class FrozenModels:
    """Models by name; those with known weights that are not there, and everything else that is wrong."""

    models: dict[str, FrozenTeacher] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    @property
    def refusals(self) -> list[str]:
        """A line for every model that cannot be loaded."""
        return [*self.mistakes, *map(str, self.missing)]


def load_teachers(
    configs: Mapping[str, TeacherEntry],
    *,
    base: Path,
    by_recipe: Mapping[str, Callable[[], FrozenTeacher]] = _NONE,
) -> FrozenModels:
    """The teachers of a recipe whose relative paths start at `base`.

    Those of kind `recipe` are what `by_recipe` gives, which may lack some of them: they are left out.
    """
    loaded = FrozenModels()
    for name, config in configs.items():
        if not isinstance(config, RecipeTeacher):
            known = partial(missing_teacher, name, config)
            _add(loaded, name, partial(load_teacher, name, config, base=base), known)
        elif name in by_recipe:
            _add(loaded, name, by_recipe[name], lambda: None)
    return loaded


def trained_teacher(name: str, config: RecipeTeacher, folder: Path) -> FrozenTeacher:
    """The teacher whose recipe has written its student to `folder`."""
    return load_student_as_teacher(folder, id=name, modalities=config.modalities, precision=config.precision)


def untrained_teacher(
    name: str, config: RecipeTeacher, student: DualEncoder, provenance: Provenance
) -> FrozenTeacher:
    """The teacher before its recipe has run: its card says what it will be able to do, and under what terms.

    `student` is what the recipe trains. It goes through a folder, as it will once it is trained, so that all
    but the numbers are the same then.
    """
    with TemporaryDirectory() as place:
        folder = Path(place) / "student"
        save_student(student, folder, provenance=provenance)
        return trained_teacher(name, config, folder)


def load_baselines(configs: Mapping[str, BaselineConfig], *, base: Path) -> FrozenModels:
    """The baselines of a recipe; each must embed images."""
    loaded = FrozenModels()
    for name, config in configs.items():
        load = partial(load_baseline, name, config, base=base)
        known = partial(_missing, name, config)
        _add(loaded, name, load, known, before=f"`{_PLACE}.{name}`: ")
    return loaded


def load_baseline(name: str, config: BaselineConfig, *, base: Path) -> FrozenTeacher:
    """One baseline. Raises MedDistillError where it cannot be loaded or embeds no images."""
    if isinstance(config, StudentFolder):
        return load_student_as_teacher(resolve_path(str(config.folder), base))
    model = load_teacher(name, config, base=base)
    image_input(model.card)  # or refused
    return model


def role_of(config: BaselineConfig) -> Role:
    """`frozen` for a model as it comes, `baseline` for another student."""
    return "baseline" if isinstance(config, StudentFolder) else "frozen"


def _missing(name: str, config: BaselineConfig) -> Missing | None:
    if isinstance(config, StudentFolder):
        return None
    return missing_teacher(name, config, section=_PLACE)


def _add(
    loaded: FrozenModels,
    name: str,
    load: Callable[[], FrozenTeacher],
    known: Callable[[], Missing | None],
    *,
    before: str = "",
) -> None:
    try:
        loaded.models[name] = load()
    except MissingWeights as error:
        missing = known()
        if missing is None:
            loaded.mistakes.append(f"{before}{error}")
        else:
            loaded.missing.append(missing)
    except MedDistillError as error:
        loaded.mistakes.append(f"{before}{error}")
