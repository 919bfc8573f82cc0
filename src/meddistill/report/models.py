"""How a model looks everywhere in a report: its order, its colour, its mark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meddistill.evaluation.base.results import AnyRole, Results
from meddistill.report.data import ModelCard

COLORS: Final = 9  # before they begin again, with other dashes
REFERENCE_CSS: Final = "c-reference"

COMPARED: Final[frozenset[AnyRole]] = frozenset({"frozen", "baseline"})  # neither student nor teacher

_ORDER: dict[AnyRole, int] = {"student": 0, "frozen": 1, "baseline": 2, "ensemble": 3, "teacher": 4}
_WORDS: Final[Mapping[AnyRole, str]] = {
    "ensemble": "average of the teachers' predictions",
    "frozen": "frozen, for comparison",
    "baseline": "for comparison",
}


@dataclass(frozen=True, kw_only=True)
class ModelStyle:
    """A model's name, role and CSS classes (`c-student`, `c-t0`, `c-t3 c-baseline`, ...): colour and dash.

    `lead` marks the one that all others are compared with: the student, or the first model.
    """

    name: str
    role: AnyRole
    css: str
    lead: bool = False

    @property
    def words(self) -> str:
        """The role in words."""
        return _WORDS.get(self.role, self.role)


def model_styles(results: Results | None, cards: Sequence[ModelCard] = ()) -> tuple[ModelStyle, ...]:
    """All models: the lead, frozen models, baselines, teacher mean, teachers in their own order.

    The lead has the student's colour and an ensemble grey; of the others, teachers first, each has one of its
    own. Models for comparison are outlined where they stand beside a student or teachers. A task's own
    baselines are left out: they stand in the section on their task (see `references`).
    """
    named: list[tuple[str, AnyRole]] = (
        [(model.name, model.role) for model in results.models if not model.tasks] if results else []
    )
    known = {name for name, _ in named}
    named += [(card.name, card.role) for card in cards if card.name not in known]
    lead = _lead(named)
    peers = all(role in COMPARED or role == "ensemble" for _, role in named)
    colored = [each for each in named if each[0] != lead and each[1] != "ensemble"]
    colored.sort(key=lambda each: each[1] != "teacher")
    css = {name: f"c-t{place % COLORS}" for place, (name, _) in enumerate(colored)}
    css |= {name: f"{css[name]} c-again" for name, _ in colored[COLORS:]}
    css |= {name: f"{css[name]} c-baseline" for name, role in colored if role in COMPARED and not peers}
    styles = [
        ModelStyle(
            name=name,
            role=role,
            css="c-student" if name == lead else css.get(name, "c-ensemble"),
            lead=name == lead,
        )
        for name, role in named
    ]
    return tuple(sorted(styles, key=lambda style: (not style.lead, _ORDER[style.role])))


def lead_name(styles: Sequence[ModelStyle]) -> str:
    """The name of the lead; "" where there is no model."""
    return next((style.name for style in styles if style.lead), "")


def _lead(named: Sequence[tuple[str, AnyRole]]) -> str:
    students = [name for name, role in named if role == "student"]
    return next(iter([*students, *(name for name, role in named if role != "ensemble")]), "")


def references(results: Results, task: str) -> tuple[ModelStyle, ...]:
    """The task's own baselines, which no other task has; all in one grey."""
    return tuple(
        ModelStyle(name=model.name, role=model.role, css=REFERENCE_CSS)
        for model in results.models
        if task in model.tasks
    )
