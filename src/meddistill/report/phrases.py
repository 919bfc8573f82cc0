"""Names of models in a report: of a student and its teachers only where there are both."""

from collections.abc import Sequence
from dataclasses import dataclass

from meddistill.report.models import ModelStyle


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """Names and titles.

    `distilled`: a student stands beside its teachers. `who` is "the student" then, and else the name of the
    model that all others are compared with (empty where there is none).
    """

    distilled: bool
    who: str
    scores: str
    every: str
    classification: str

    @property
    def short(self) -> str:
        """`student`, `house`: for titles of columns."""
        return self.who.removeprefix("the ") if self.distilled else self.who

    @property
    def whose(self) -> str:
        """`the student’s`, `house’s`."""
        return f"{self.who}’s"


def phrases(styles: Sequence[ModelStyle]) -> Phrases:
    """The words for these models."""
    lead = next((style for style in styles if style.lead), None)
    teachers = any(style.role == "teacher" for style in styles)
    others = sum(style.role != "ensemble" for style in styles) > 1
    name = lead.name if lead is not None else ""
    if lead is not None and lead.role == "student" and teachers:
        return Phrases(
            distilled=True,
            who="the student",
            scores="Scores of the student beside its teachers",
            every="Every teacher and the student, from chance to the best model of each task.",
            classification="The student beside the best teacher of each task.",
        )
    beside = " beside the best teacher of each task" if teachers else ""
    return Phrases(
        distilled=False,
        who=name,
        scores=f"Scores of {name} beside the other models" if others else f"Scores of {name}",
        every="What every model scores." if others else f"What {name} scores.",
        classification=f"Pictures of {name}{beside}; other models are in the tables.",
    )
