"""Weights that a recipe names, that are not on this disk, and of which it is known how to get them."""

from dataclasses import dataclass
from pathlib import Path

from meddistill.errors import MissingWeights
from meddistill.students.config import NO_WEIGHTS, StudentConfig
from meddistill.students.paths import resolve_path
from meddistill.teachers.catalogue import CatalogueEntry, catalogue
from meddistill.teachers.config import TeacherConfig


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Weights to fetch: `place` is the recipe's key, `folder` where it looks for them.

    `before` names the teacher whose own recipe has that key.
    """

    place: str
    folder: str
    name: str
    licence: str
    gated: bool
    how: str
    before: str = ""

    def __str__(self) -> str:
        """One line: what is missing, under which licence, and how to get it."""
        return (
            f"{self.before}`{self.place}`: {self.name} is missing; nothing is at {self.folder}. "
            f"Licence: {self.licence}. To get it: {self.how}"
        )


def missing_teacher(name: str, config: TeacherConfig, *, section: str = "teachers") -> Missing | None:
    """What is known of a teacher whose files are absent: by its id, or by its model; None for others.

    `section` is the part of the recipe that names it.
    """
    model = str(getattr(config, "model", "") or "").removeprefix("local-dir:")
    entry = catalogue().get(name) or _by_model(model)
    if entry is None:
        return None
    return _missing(f"{section}.{name}.model", entry, folder=model, licence=config.terms.name)


def missing_weights_message(name: str, config: TeacherConfig, error: MissingWeights) -> str:
    """Why a teacher cannot be loaded: what is missing and how to get it, where that is known."""
    return str(missing_teacher(name, config) or error)


def missing_initial_weights(config: StudentConfig, *, base: Path) -> tuple[Missing, ...]:
    """The student's initial weights that are absent and known, by the name of their folder."""
    wanted = {"student.init": (config.init, config.init_licence) if config.init != NO_WEIGHTS else None}
    if config.text.hf is not None:
        wanted["student.text.hf"] = (config.text.hf, config.text.hf_licence)
    absent = []
    for place, named in wanted.items():
        if named is None or resolve_path(named[0], base).exists():
            continue
        entry = catalogue().get(Path(named[0]).name)
        if entry is not None:
            licence = named[1] if isinstance(named[1], str) else entry.licence.name
            absent.append(_missing(place, entry, folder=named[0], licence=licence))
    return tuple(absent)


def _by_model(model: str) -> CatalogueEntry | None:
    plain = model.removeprefix("hf-hub:")
    return next((entry for entry in catalogue().values() if entry.hub_id == plain), None)


def _missing(place: str, entry: CatalogueEntry, *, folder: str, licence: str) -> Missing:
    return Missing(
        place=place,
        folder=folder,
        name=entry.name,
        licence=licence,
        gated=entry.gated,
        how=entry.how_to_get(folder.removeprefix("./")),
    )
