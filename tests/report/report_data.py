"""A report's record with known numbers: two tasks, a student, two teachers, their mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meddistill.evaluation.base.results import (
    MEAN_TASK,
    TEACHER_MEAN,
    Agreement,
    AnyRole,
    Difference,
    ModelFacts,
    Result,
    Results,
    RetrievalExample,
    TaskFacts,
)
from meddistill.licences import join, resolve
from meddistill.report.data import Captions, Curves, ModelCard, ReportData


@dataclass(frozen=True, kw_only=True)
class GivenExamples:
    """`Examples` of a few rows, by (table, row) or (task, table, row); of others nothing."""

    pictures: Mapping[tuple[str, int], bytes] = field(default_factory=dict)
    captions: Mapping[tuple[str, int], str] = field(default_factory=dict)
    questions: Mapping[tuple[str, str, int], str] = field(default_factory=dict)
    answers: Mapping[tuple[str, str, int], str] = field(default_factory=dict)

    def picture(self, table: str, row: int, *, side: int = 0) -> bytes:  # noqa: ARG002
        return self.pictures.get((table, row), b"")

    def slide(self, table: str, places: object) -> bytes:  # noqa: ARG002
        return b""

    def caption(self, table: str, row: int) -> str:
        return self.captions.get((table, row), "")

    def question(self, task: str, table: str, row: int) -> str:
        return self.questions.get((task, table, row), "")

    def answer(self, task: str, table: str, row: int) -> str:
        return self.answers.get((task, table, row), "")


ROLES: Mapping[str, AnyRole] = {
    "student": "student",
    "radiology": "teacher",
    "skin": "teacher",
    TEACHER_MEAN: "ensemble",
}
SCORES: Mapping[tuple[str, str], float | None] = {
    ("student", "findings"): 0.82,
    ("student", "retrieval"): 0.5,
    ("student", MEAN_TASK): 0.66,
    ("radiology", "findings"): 0.7,
    ("radiology", "retrieval"): 0.25,
    ("radiology", MEAN_TASK): 0.47,
    ("skin", "findings"): 0.25,
    ("skin", "retrieval"): None,
    ("skin", MEAN_TASK): 0.25,
    (TEACHER_MEAN, "findings"): 0.72,
    (TEACHER_MEAN, "retrieval"): 0.26,
    (TEACHER_MEAN, MEAN_TASK): 0.49,
}
FAMILY = {"findings": "zero_shot", "retrieval": "retrieval", MEAN_TASK: "mean"}


def score(model: str, task: str, **changes: Any) -> Result:
    """The main metric of a model on a task, with an interval of 0.05 to each side."""
    value = SCORES[model, task]
    known = {
        "model": model,
        "role": ROLES[model],
        "task": task,
        "family": FAMILY[task],
        "metric": "mean_recall" if task == "retrieval" else "balanced_accuracy",
        "value": value,
        "low": None if value is None else value - 0.05,
        "high": None if value is None else value + 0.05,
        "n": 40,
        "patients": 20,
        "seed": 0,
        "main": True,
        "note": "" if value is not None else "no text tower",
        "library": "ours",
    }
    return Result(**(known | changes))


def difference(other: str, task: str, *, half: float = 0.02) -> Difference | None:
    """The student minus another model, with an interval of `half` to each side."""
    mine, theirs = SCORES["student", task], SCORES[other, task]
    if mine is None or theirs is None:
        return None
    gap = mine - theirs
    return Difference(
        model="student",
        other=other,
        other_role=ROLES[other],
        task=task,
        family=FAMILY[task],
        metric="balanced_accuracy",
        value=gap,
        low=gap - half,
        high=gap + half,
        n=40,
        patients=20,
        better=0.9,
        seed=0,
        library="ours",
    )


def results(*, half: float = 0.02) -> Results:
    """Results with `half` the half-width of the intervals of all differences."""
    gaps = [difference(other, task, half=half) for other in ROLES if other != "student" for task in FAMILY]
    by_modality = [
        score(model, MEAN_TASK, modality="ct", main=False) for model in ROLES if SCORES[model, MEAN_TASK]
    ]
    task = {"n": 40, "patients": 20, "modalities": {"ct": 40}, "include_in_mean": True, "sha256": ""}
    return Results(
        suite="tiny",
        suite_sha256="0" * 64,
        resamples=1000,
        seed=0,
        level=0.95,
        rule="Intervals are percentiles.",
        versions={"numpy": "2"},
        models=tuple(
            ModelFacts(name=name, role=role, fingerprint=name, has_text=True) for name, role in ROLES.items()
        ),
        tasks=(
            TaskFacts(
                name="findings",
                family="zero_shot",
                main_metric="balanced_accuracy",
                facts={"classes": {"cyst": {"n": 30}, "none": {"n": 10}}},
                **task,
            ),
            TaskFacts(
                name="retrieval",
                family="retrieval",
                main_metric="mean_recall",
                facts={"images": 40, "texts": 38},
                **task,
            ),
        ),
        results=(*(score(model, name) for model, name in SCORES), *by_modality),
        differences=tuple(gap for gap in gaps if gap is not None),
        agreement=(
            Agreement(student="student", teacher="radiology", modality="", measure="cka", value=0.8, n=40),
        ),
        examples=tuple(
            RetrievalExample(
                task="retrieval",
                table="pairs",
                model=model,
                direction=direction,
                modality="ct",
                query=3,
                rank=rank,
                answers=(3, 4),
                right=(True, False),
            )
            for model, rank in (("student", 1.0), ("radiology", 7.5))
            for direction in ("image_to_text", "text_to_image")
        ),
    )


def with_reference(found: Results, name: str, task: str, **metrics: float | None) -> Results:
    """The results with a baseline that belongs to one task, and its numbers there."""
    family = next(each.family for each in found.tasks if each.name == task)
    rows = [
        Result(
            model=name, role="baseline", task=task, family=family, metric=metric, value=value, n=40,
            patients=20, seed=0, main=place == 0, library="ours",
        )
        for place, (metric, value) in enumerate(metrics.items())
    ]  # fmt: skip
    own = ModelFacts(name=name, role="baseline", fingerprint="", has_text=False, tasks=(task,))
    return found.model_copy(update={"models": (*found.models, own), "results": (*found.results, *rows)})


def report_data(**changes: Any) -> ReportData:
    """A whole report's record."""
    apache, research = resolve("Apache-2.0"), resolve("CC-BY-NC-4.0")
    known: dict[str, Any] = {
        "title": "tiny run",
        "results": results(),
        "models": (
            ModelCard(name="student", role="student", licence=research, parameters=1_000_000),
            ModelCard(
                name="radiology",
                role="teacher",
                licence=research,
                parameters=86_200_000,
                images_per_second={1: 4.37, 16: 2168.0},
                input_size=(224, 224),
            ),
            ModelCard(name="skin", role="teacher", licence=apache, parameters=4_000_000),
        ),
        "curves": (
            Curves(
                stage="distill",
                method="embedding",
                steps=(1, 2, 3),
                series={
                    "loss": (3.0, None, 1.0),
                    "loss/feature_mse": (0.3, 0.2, 0.1),
                    "teacher/radiology/weight": (0.5, 0.5, 0.5),
                },
            ),
        ),
        "student_terms": join([apache, research]),
        "captions": Captions(captions=100, context_length=77, cut=5, median=20.0, longest=90),
        "facts": (("Patients", "20"),),
        "recipe_yaml": "name: tiny",
        "command": "meddistill run tiny.yaml",
    }
    return ReportData(**(known | changes))
