"""Models against one another: paired differences with tests, tallies over tasks, ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from meddistill.data.datasets import shared_datasets
from meddistill.evaluation.base.bootstrap import Replicates, Resampler, estimate, mean_replicates
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.grouping import in_order
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.records import Comparison, GroupGap, GroupScore, Place, Ranking
from meddistill.evaluation.base.results import MEAN_FAMILY, MEAN_TASK, AnyRole, Difference
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.engine.collect import library
from meddistill.evaluation.engine.registry import AnyTask
from meddistill.evaluation.statistics.groups import GroupScorer
from meddistill.evaluation.statistics.over_tasks import (
    Gap,
    complete,
    critical_difference,
    friedman,
    mean_ranks,
    signed_rank,
    tally,
)
from meddistill.evaluation.statistics.paired import bootstrap_p, holm, mcnemar_p, min_p
from meddistill.evaluation.statistics.places import places

_LIBRARIES: Final = ("scipy",)  # its tests

Tested = TypeVar("Tested", Comparison, Difference)


@dataclass(frozen=True, kw_only=True)
class ComparisonInputs:
    """What comparisons start from.

    `scores` are the main metrics on all rows by (model, task), those of MEAN_TASK among them; `dumps` the
    predictions by the same; `pretraining` names the data sets that a model was trained on before.
    """

    scores: Mapping[tuple[str, str], Score]
    dumps: Mapping[tuple[str, str], Predictions]
    roles: Mapping[str, AnyRole]
    pretraining: Mapping[str, tuple[str, ...]]
    tasks: Sequence[AnyTask]
    config: BootstrapConfig

    @property
    def references(self) -> list[str]:
        """Whom all others are compared with: the students, or the first model where there is none."""
        alone = self.alone
        return [name for name in alone if self.roles[name] == "student"] or alone[:1]

    @property
    def alone(self) -> list[str]:
        """All models that are one model."""
        return [name for name, role in self.roles.items() if role != "ensemble"]

    @property
    def counted(self) -> list[str]:
        """The tasks that the mean counts."""
        return [task.name for task in self.tasks if task.config.include_in_mean]

    def mean_over(self, model: str, tasks: Sequence[str]) -> Replicates:
        """Mean of the model's main metrics over some tasks, resample by resample."""
        return mean_replicates([self.scores[model, task].replicates for task in tasks])

    def patients(self, tasks: Sequence[str]) -> int:
        """How many patients some tasks are evaluated on together."""
        parts = [each.tested.patients for each in self.tasks if each.name in tasks]
        return len(np.unique(np.concatenate(parts)))

    def seen(self, task: str, *models: str) -> tuple[str, ...]:
        """Data sets of the task (of MEAN_TASK: of all in it) that one of the models was pretrained on."""
        inputs = [
            name
            for each in self.tasks
            if each.name == task or (task == MEAN_TASK and each.config.include_in_mean)
            for name in each.config.dataset
        ]
        return shared_datasets(inputs, [name for model in models for name in self.pretraining.get(model, ())])


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All that comparisons found, under the names of the fields of `Results`."""

    differences: tuple[Difference, ...]
    comparisons: tuple[Comparison, ...]
    ranking: Ranking | None
    places: tuple[Place, ...]
    groups: tuple[GroupScore, ...]
    gaps: tuple[GroupGap, ...]


def compare_models(inputs: ComparisonInputs, resampler: Resampler, *, least: int) -> Compared:
    """Models against one another, and each on groups of at least `least` patients."""
    pairwise = differences(inputs)
    groups, gaps = score_groups(inputs, resampler, least=least)
    return Compared(
        differences=pairwise,
        comparisons=comparisons(inputs, pairwise),
        ranking=ranking(inputs),
        places=all_places(inputs),
        groups=groups,
        gaps=gaps,
    )


def differences(inputs: ComparisonInputs) -> tuple[Difference, ...]:
    """Every reference against every other model, on every task and on the mean, with p values.

    Holm's correction runs over all tasks x others of one reference, and over all others on the mean, which
    sums the tasks up and is a question of its own.
    """
    found: list[Difference] = []
    for model in inputs.references:
        rows = list(_differences_of(inputs, model))
        for family in (
            [row for row in rows if row.task != MEAN_TASK],
            [row for row in rows if row.task == MEAN_TASK],
        ):
            found += _corrected(family)
    return tuple(found)


def _differences_of(inputs: ComparisonInputs, model: str) -> Iterator[Difference]:
    named = [(task.name, task.config.kind) for task in inputs.tasks] + [(MEAN_TASK, MEAN_FAMILY)]
    for other in [name for name in inputs.roles if name != model]:
        for task, family in named:
            row = _difference(inputs, (model, other), task, family)
            if row is not None:
                yield row


def _difference(inputs: ComparisonInputs, pair: tuple[str, str], task: str, family: str) -> Difference | None:
    model, other = pair
    mine, theirs = inputs.scores.get((model, task)), inputs.scores.get((other, task))
    if mine is None or theirs is None:
        return None
    replicates = mine.replicates - theirs.replicates
    interval = estimate(replicates, patients=mine.patients, level=inputs.config.level)
    if interval.value is None:
        return None
    resampled = replicates[1:][np.isfinite(replicates[1:])]
    return Difference(
        model=model,
        other=other,
        other_role=inputs.roles[other],
        task=task,
        family=family,
        metric=mine.metric,
        **vars(interval),
        better=float((resampled > 0).mean()) if len(resampled) else float(interval.value > 0),
        p_value=None if interval.low is None else bootstrap_p(replicates),
        p_mcnemar=_mcnemar(inputs.dumps.get((model, task)), inputs.dumps.get((other, task))),
        seen=inputs.seen(task, model, other),
        n=mine.n,
        patients=mine.patients,
        seed=inputs.config.seed,
        library=library(_LIBRARIES),
    )


def _mcnemar(mine: Predictions | None, theirs: Predictions | None) -> float | None:
    """The test on all decisions; None where there are none, or where patients have several rows."""
    if mine is None or theirs is None:
        return None
    first, second = mine.decisions(), theirs.decisions()
    if first is None or second is None or not np.array_equal(first.rows, second.rows):
        return None
    if len(np.unique(first.patients)) < len(first.patients):
        return None
    return mcnemar_p(first.right, second.right)


def comparisons(inputs: ComparisonInputs, differences: Sequence[Difference]) -> tuple[Comparison, ...]:
    """Every reference against every other model over the tasks that the mean counts."""
    compared: list[Comparison] = []
    for model in inputs.references:
        rows = [_comparison(inputs, model, other, differences) for other in inputs.roles if other != model]
        compared += _corrected([row for row in rows if row is not None])
    return tuple(compared)


def _corrected(rows: Sequence[Tested]) -> list[Tested]:
    """The rows with their p values corrected for the number of them."""
    corrected = holm([row.p_value for row in rows])
    return [row.model_copy(update={"p_holm": p}) for row, p in zip(rows, corrected, strict=True)]


def _comparison(
    inputs: ComparisonInputs, model: str, other: str, differences: Sequence[Difference]
) -> Comparison | None:
    counted = [
        row for row in differences if (row.model, row.other) == (model, other) and row.task in inputs.counted
    ]
    if not counted:
        return None
    counts = tally([Gap(value=row.value, low=row.low, high=row.high) for row in counted])
    test = signed_rank([row.value for row in counted])
    tasks = [row.task for row in counted]
    notes = [test.note] if test.note else [_shared(inputs, tasks)]
    mine, theirs = inputs.mean_over(model, tasks), inputs.mean_over(other, tasks)
    gap = estimate(mine - theirs, patients=inputs.patients(tasks), level=inputs.config.level)
    return Comparison(
        model=model,
        other=other,
        tasks=len(counted),
        **vars(counts),
        mean_difference=float(np.mean([row.value for row in counted])),
        mean=float(mine[0]),
        other_mean=float(theirs[0]),
        low=gap.low,
        high=gap.high,
        statistic=test.statistic,
        p_value=test.p_value,
        seen_tasks=tuple(row.task for row in counted if row.seen),
        note="; ".join(note for note in notes if note),
        seed=inputs.config.seed,
        library=library(_LIBRARIES),
    )


def _shared(inputs: ComparisonInputs, tasks: Sequence[str]) -> str:
    """A caution where several of the tasks are evaluated on the rows of one table."""
    tables = {task.tested.table for task in inputs.tasks if task.name in tasks}
    if len(tables) == len(tasks):
        return ""
    plural = "" if len(tables) == 1 else "s"
    return f"{len(tasks)} tasks on {len(tables)} table{plural} are not independent: p is too small"


def ranking(inputs: ComparisonInputs) -> Ranking | None:
    """Mean ranks of all single models over the tasks that the mean counts; None below two models or tasks."""
    points = {key: float(score.replicates[0]) for key, score in inputs.scores.items()}
    values = {key: point for key, point in points.items() if np.isfinite(point)}
    tasks = [task for task in inputs.counted if any((model, task) in values for model in inputs.alone)]
    models, scores = complete(values, inputs.alone, tasks)
    if len(models) < 2 or len(tasks) < 2:
        return None
    test = friedman(scores)
    alpha = round(1 - inputs.config.level, 12)
    apart = None if test.p_value is None else critical_difference(len(tasks), len(models), alpha)
    return Ranking(
        tasks=tuple(tasks),
        mean_ranks=dict(zip(models, mean_ranks(scores).tolist(), strict=True)),
        statistic=test.statistic,
        p_value=test.p_value,
        critical_difference=apart,
        alpha=alpha,
        left_out=tuple(model for model in inputs.alone if model not in models),
        note=test.note or _shared(inputs, tasks),
    )


def all_places(inputs: ComparisonInputs) -> tuple[Place, ...]:
    """The place of every single model on every task and on the mean."""
    ranked: list[Place] = []
    for task in (*(each.name for each in inputs.tasks), MEAN_TASK):
        replicates = {
            model: inputs.scores[model, task].replicates
            for model in inputs.alone
            if (model, task) in inputs.scores
        }
        ranked += places(task, replicates, level=inputs.config.level)
    return tuple(ranked)


def too_few_resamples(inputs: ComparisonInputs, differences: Sequence[Difference]) -> tuple[str, ...]:
    """A warning where so many tests are made that no corrected p value could come below 1 - level."""
    alpha = 1 - inputs.config.level
    counts = [
        sum(row.model == model and row.task != MEAN_TASK and row.p_value is not None for row in differences)
        for model in inputs.references
    ]
    tests = max(counts, default=0)
    if tests * min_p(inputs.config.resamples) <= alpha:
        return ()
    wanted = int(np.ceil(2 * tests / alpha))
    return (
        f"with {inputs.config.resamples:,} resamples and {tests} tests no corrected p value can come below "
        f"{alpha:.2g}: set `bootstrap.resamples` to {wanted:,} or more, or read the intervals",
    )


def score_groups(
    inputs: ComparisonInputs, resampler: Resampler, *, least: int
) -> tuple[tuple[GroupScore, ...], tuple[GroupGap, ...]]:
    """Every model on the groups of every task that has some."""
    scores: list[GroupScore] = []
    gaps: list[GroupGap] = []
    for task in [each for each in inputs.tasks if each.config.groups]:
        for model in inputs.roles:
            dump = inputs.dumps.get((model, task.name))
            if dump is None:
                continue
            scorer = GroupScorer(
                model=model,
                task=task.name,
                family=task.config.kind,
                metric=task.main,
                library=library(task.libraries),
                resampler=resampler,
                least=least,
            )
            orders = {name: in_order(_tested(dump, name), each) for name, each in task.config.groups.items()}
            rows, apart = scorer.score(dump, orders)
            scores += rows
            gaps += apart
    return tuple(scores), tuple(gaps)


def _tested(dump: Predictions, group: str) -> tuple[str, ...]:
    """The group of every row of the tested table."""
    return tuple(label for label, tested in zip(dump.groups[group], dump.tested, strict=True) if tested)
