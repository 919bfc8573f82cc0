"""The frozen models that a recipe names, loaded: its teachers, and what its student is compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from meddistill.errors import MedDistillError, MissingWeights
from meddistill.evaluation.models.protocols import Role
from meddistill.evaluation.models.torch_models import image_input, load_student_as_teacher
from meddistill.recipes.baselines import BaselineConfig, StudentFolder
from meddistill.recipes.missing import Missing, missing_teacher
from meddistill.students.paths import resolve_path
from meddistill.teachers.config import TeacherConfig
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

_PLACE: Final = "evaluate.baselines"


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


def load_teachers(configs: Mapping[str, TeacherConfig], *, base: Path) -> FrozenModels:
    """The teachers of a recipe whose relative paths start at `base`."""
    loaded = FrozenModels()
    for name, config in configs.items():
        known = partial(missing_teacher, name, config)
        _add(loaded, name, partial(load_teacher, name, config, base=base), known)
    return loaded


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
