"""How a model looks everywhere in a report: its order, its colour, its mark."""

from collections.abc import Sequence
from dataclasses import dataclass

from meddistill.evaluation.results import AnyRole, Results
from meddistill.report.data import ModelCard

TEACHER_COLOURS = 9

_ORDER: dict[AnyRole, int] = {"student": 0, "baseline": 1, "ensemble": 2, "teacher": 3}


@dataclass(frozen=True, kw_only=True)
class Look:
    """A model's name, role and CSS class (`c-student`, `c-t0`, ...), which sets colour and dash."""

    name: str
    role: AnyRole
    css: str

    @property
    def words(self) -> str:
        """The role in words."""
        return {"ensemble": "average of the teachers' predictions", "baseline": "for comparison"}.get(
            self.role, self.role
        )


def looks(results: Results | None, cards: Sequence[ModelCard] = ()) -> tuple[Look, ...]:
    """All models: student, baselines, teacher mean, teachers in their own order.

    A task's own baselines are left out: they stand in the section on their task.
    """
    named: list[tuple[str, AnyRole]] = (
        [(model.name, model.role) for model in results.models if not model.tasks] if results else []
    )
    known = {name for name, _ in named}
    named += [(card.name, card.role) for card in cards if card.name not in known]
    number = 0
    found = []
    for name, role in named:
        css = f"c-{role}"
        if role == "teacher":
            css, number = f"c-t{number % TEACHER_COLOURS}", number + 1
        found.append(Look(name=name, role=role, css=css))
    return tuple(sorted(found, key=lambda look: _ORDER[look.role]))
