"""The results of an evaluation: tidy rows, each with its interval, in one JSON file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from meddistill.data.datasets import shared_datasets
from meddistill.evaluation.base.exhibits import AnyExhibit, Exhibit
from meddistill.evaluation.base.records import Comparison, GroupGap, GroupScore, Place, Ranking
from meddistill.evaluation.base.written import read_record
from meddistill.evaluation.models.protocols import Role
from meddistill.files import write_whole
from meddistill.strict import Strict

RESULTS_FILE: Final = "results.json"
MEAN_TASK: Final = "mean over tasks"
MEAN_FAMILY: Final = "mean"
TEACHER_MEAN: Final = "teacher mean"
ALL_ROWS: Final = ""
NOT_APPLICABLE: Final = "not applicable: the model has "  # and what it lacks

AnyRole = Role | Literal["ensemble"]
Kind = TypeVar("Kind", bound=Exhibit)


class Result(Strict):
    """One number.

    `modality` and `setting` are "" for all rows and for the task's main setting. `value` is None where the
    metric is not defined or not applicable; `note` then says why. `low` and `high` bound the percentile
    interval over patients. `n` counts rows (of retrieval: queries), `patients` the patients that were
    resampled, `failed` the resamples without a value, `seeds` the fits that were averaged, `spread` the
    standard deviation between them. `main` marks the task's main metric on all rows, which enters means.
    """

    model: str
    role: AnyRole
    task: str
    family: str
    metric: str
    modality: str = ALL_ROWS
    setting: str = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    patients: int = 0
    failed: int = 0
    seed: int
    seeds: int = 1
    spread: float | None = None
    main: bool = False
    note: str = ""
    library: str


class Difference(Strict):
    """Main metric of `model` minus that of `other` on the same resamples.

    `better` is the share of resamples in which the difference is above zero. `p_value` is of the two-sided
    bootstrap test, `p_holm` the same corrected for all tasks x others of the model, `p_mcnemar` of McNemar's
    exact test of accuracy, where every patient has one decision. `seen`: data sets of the task that one of
    the two was pretrained on.
    """

    model: str
    other: str
    other_role: AnyRole
    task: str
    family: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int
    patients: int
    failed: int = 0
    better: float
    p_value: float | None = None
    p_holm: float | None = None
    p_mcnemar: float | None = None
    seen: tuple[str, ...] = ()
    seed: int
    library: str


class ModelFacts(Strict):
    """A model that was evaluated. `members` are those of an ensemble; `pretraining_data` names what it was
    trained on before, a student's teachers included. `tasks` names those that a task's own baseline belongs
    to, and no others evaluate it; () for a model, which is evaluated on all.
    """

    name: str
    role: AnyRole
    fingerprint: str
    has_text: bool
    image_dim: int | None = None
    logit_scale: float | None = None
    members: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    pretraining_data: tuple[str, ...] = ()


class TaskFacts(Strict):
    """A task as it was run. `facts` holds what is particular: classes and their counts, gallery sizes;
    `datasets` the public data sets that its images come from; `sha256` is of its settings, rows and images.
    """

    name: str
    family: str
    main_metric: str
    n: int
    patients: int
    modalities: Mapping[str, int]
    include_in_mean: bool
    sha256: str
    prompts_sha256: str | None = None
    datasets: tuple[str, ...] = ()
    facts: Mapping[str, Any] = {}


class Agreement(Strict):
    """How much the student's space is like a teacher's, on images of one modality ("" for all).

    `measure`: `cka`, `neighbours`, `labels`; see `agreement.py`.
    """

    student: str
    teacher: str
    modality: str
    measure: Literal["cka", "neighbours", "labels"]
    value: float
    n: int


class RetrievalExample(Strict):
    """The five best answers of one model to one query, as rows of the task's table (from 1).

    Queries are chosen by hash, over the modalities in turn, never by how well a model answers them.
    """

    task: str
    table: str
    model: str
    direction: str
    modality: str
    query: int
    rank: float
    answers: tuple[int, ...]
    right: tuple[bool, ...]


class Results(Strict):
    """Everything that an evaluation found. `versions` are of the libraries that made the numbers."""

    format: Literal["meddistill-results"] = "meddistill-results"
    version: Literal[1] = 1
    suite: str
    suite_sha256: str
    resamples: int
    seed: int
    level: float
    rule: str
    versions: Mapping[str, str]
    models: tuple[ModelFacts, ...]
    tasks: tuple[TaskFacts, ...]
    results: tuple[Result, ...]
    differences: tuple[Difference, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    ranking: Ranking | None = None
    places: tuple[Place, ...] = ()
    groups: tuple[GroupScore, ...] = ()
    gaps: tuple[GroupGap, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    examples: tuple[RetrievalExample, ...] = ()
    exhibits: tuple[AnyExhibit, ...] = ()
    warnings: tuple[str, ...] = ()

    def main(self, model: str, task: str) -> Result | None:
        """The main metric of a model on a task (or MEAN_TASK), on all rows; None if there is no such row."""
        return next((row for row in self.of(model=model, task=task) if row.main), None)

    def of(self, *, model: str | None = None, task: str | None = None) -> Iterable[Result]:
        """All rows of a model, a task, or both."""
        return (row for row in self.results if model in (None, row.model) and task in (None, row.task))

    def exhibits_of(self, kind: type[Kind], *, task: str, model: str | None = None) -> list[Kind]:
        """The exhibits of one kind of a task, of one model where it is named."""
        of_kind = (each for each in self.exhibits if isinstance(each, kind))
        return [each for each in of_kind if each.task == task and model in (None, each.model)]

    def named(self, role: AnyRole) -> tuple[str, ...]:
        """Names of the models with a role, in order."""
        return tuple(model.name for model in self.models if model.role == role)

    def best_teacher(self, task: str) -> Result | None:
        """The teacher (no ensemble) with the highest main metric; None if no teacher has one."""
        rows = [self.main(teacher, task) for teacher in self.named("teacher")]
        defined = [row for row in rows if row is not None and row.value is not None]
        return max(defined, key=lambda row: row.value or 0.0, default=None)

    def difference(self, model: str, other: str, task: str) -> Difference | None:
        """The paired difference of two models on a task, if there is one."""
        wanted = (model, other, task)
        return next((row for row in self.differences if (row.model, row.other, row.task) == wanted), None)

    def seen(self, model: str, task: str) -> tuple[str, ...]:
        """The task's data sets that the model was pretrained on; of MEAN_TASK those of every task in it."""
        trained = next((facts.pretraining_data for facts in self.models if facts.name == model), ())
        datasets = [
            name
            for facts in self.tasks
            if facts.name == task or (task == MEAN_TASK and facts.include_in_mean)
            for name in facts.datasets
        ]
        return shared_datasets(datasets, trained)

    def save(self, folder: Path) -> Path:
        """Write `results.json` into a folder, whole or not at all."""
        path = folder / RESULTS_FILE
        write_whole(path, self.model_dump_json(indent=1).encode())
        return path

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Read `results.json` of a folder. Raises UserError where it is absent or other than written."""
        path = folder / RESULTS_FILE
        return read_record(cls, path, what="a suite's results", maker="meddistill evaluate")
