"""How far results depend on the seed: the same suite, evaluated in several runs.

A model is known by its name. Those that are the same in all runs (the teachers) tie the runs' orders
together, so that a rank correlation near 1 may say little of the student: read the share of runs in which it
beats a model beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import Literal

import numpy as np
from scipy import stats

from meddistill.arrays import Floats
from meddistill.errors import ConfigError
from meddistill.evaluation.base.bootstrap import DECIMALS
from meddistill.evaluation.base.results import MEAN_TASK, Results
from meddistill.strict import Strict

_LEAST_MODELS = 3  # two models have one order or the other: a correlation of 1 or -1 by chance


class Spread(Strict):
    """Main metric of a model on a task over runs; `sd` divides by runs - 1 and is None for one run.

    `first` is the mean over runs of the probability of ranking first over resamples of patients, None where
    the runs do not tell it. `seen`: data sets of the task that the model was pretrained on, in any run.
    """

    model: str
    task: str
    runs: int
    mean: float
    sd: float | None = None
    lowest: float
    highest: float
    first: float | None = None
    seen: tuple[str, ...] = ()


class Beaten(Strict):
    """Share of runs in which `model` has the higher main metric; equal ones count half."""

    model: str
    other: str
    task: str
    runs: int
    share: float


class RankAgreement(Strict):
    """How alike two runs order the models on a task, mean and least over all pairs of runs.

    `kendall` is tau-b, `spearman` the correlation of ranks; None where a run gives all models one score.
    """

    task: str
    models: int
    pairs: int
    kendall: float | None = None
    min_kendall: float | None = None
    spearman: float | None = None
    min_spearman: float | None = None


class Stability(Strict):
    """What several runs of one suite say together."""

    format: Literal["meddistill-stability"] = "meddistill-stability"
    version: Literal[1] = 1
    suite: str
    runs: tuple[str, ...]
    spreads: tuple[Spread, ...]
    beaten: tuple[Beaten, ...]
    agreement: tuple[RankAgreement, ...]


Scores = Mapping[tuple[str, str], Floats]


def stability(runs: Mapping[str, Results]) -> Stability:
    """Compare runs, by name, of one suite. Models and tasks that only some runs know are left out.

    Raises ConfigError for fewer than two runs, for different suites or rows, for the same models twice, or
    for runs without a common model.
    """
    _check(runs)
    every = list(runs.values())
    scores = _scores(every)
    tasks = list(dict.fromkeys(task for _, task in scores))
    return Stability(
        suite=every[0].suite,
        runs=tuple(runs),
        spreads=tuple(_spread(every, model, task, values) for (model, task), values in scores.items()),
        beaten=tuple(row for task in tasks for row in _beaten(task, _on(scores, task))),
        agreement=tuple(_agreement(task, _on(scores, task)) for task in tasks),
    )


def _check(runs: Mapping[str, Results]) -> None:
    rules = []
    if len(runs) < 2:
        rules.append(f"`results` must be two at least; got {len(runs)}. Name the folders of more runs.")
    suites: dict[str, str] = {}
    for name, each in runs.items():
        suites.setdefault(each.suite_sha256, name)
    if len(suites) > 1:
        named = ", ".join(suites.values())
        tasks: list[set[str]] = [{task.name for task in runs[name].tasks} for name in suites.values()]
        alone = sorted(set[str]().union(*tasks) - tasks[0].intersection(*tasks))
        what = f"tasks that not all have: {', '.join(alone)}" if alone else "the tasks are called alike"
        rules.append(
            f"`results` must be of one suite with the same settings; those of {named} differ ({what}). "
            "Evaluate again."
        )
    rules += [] if rules else [*_other_rows(runs), *_same_models(runs)]
    if not rules and not _scores(list(runs.values())):
        rules.append("`results` must have a model in common, by name; got none. Name the models alike.")
    ConfigError.raise_any("compare", rules)


def _other_rows(runs: Mapping[str, Results]) -> Iterator[str]:
    """One rule for the tasks whose rows, images or prompts changed between two runs."""
    first, *others = runs
    known = {task.name: task.sha256 for task in runs[first].tasks}
    for name in others:
        changed = [task.name for task in runs[name].tasks if known.get(task.name, task.sha256) != task.sha256]
        if changed:
            yield (
                f"`results` must be of the same rows and images; those of {first} and {name} differ in "
                f"{', '.join(changed)}. Evaluate again."
            )


def _same_models(runs: Mapping[str, Results]) -> Iterator[str]:
    """A rule for every run whose models are all those of an earlier one: nothing was drawn anew."""
    seen: dict[tuple[tuple[str, str], ...], str] = {}
    for name, each in runs.items():
        models = tuple(sorted((model.name, model.fingerprint) for model in each.models))
        if models in seen:
            yield (
                f"`results` must be of different runs; {seen[models]} and {name} have the same models. "
                "Name each once."
            )
        seen.setdefault(models, name)


def _scores(runs: Sequence[Results]) -> dict[tuple[str, str], Floats]:
    """Main metrics [runs] by (model, task), of what every run has; tasks first, then their mean."""
    scores: dict[tuple[str, str], Floats] = {}
    for task in (*(task.name for task in runs[0].tasks), MEAN_TASK):
        for model in runs[0].models:
            rows = [each.main(model.name, task) for each in runs]
            values = [row.value for row in rows if row is not None and row.value is not None]
            if len(values) == len(runs):
                scores[model.name, task] = np.array(values, dtype=np.float64).round(DECIMALS)
    return scores


def _on(scores: Scores, task: str) -> dict[str, Floats]:
    return {model: values for (model, name), values in scores.items() if name == task}


def _spread(runs: Sequence[Results], model: str, task: str, values: Floats) -> Spread:
    first = [
        place.first for each in runs for place in each.places if (place.model, place.task) == (model, task)
    ]
    return Spread(
        model=model,
        task=task,
        runs=len(values),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        lowest=float(values.min()),
        highest=float(values.max()),
        first=float(np.mean(first)) if len(first) == len(runs) else None,
        seen=tuple(sorted({name for each in runs for name in each.seen(model, task)})),
    )


def _beaten(task: str, scores: Mapping[str, Floats]) -> list[Beaten]:
    return [
        Beaten(
            model=model,
            other=other,
            task=task,
            runs=len(scores[model]),
            share=float(((scores[model] > scores[other]) + 0.5 * (scores[model] == scores[other])).mean()),
        )
        for model, other in permutations(scores, 2)
    ]


def _agreement(task: str, scores: Mapping[str, Floats]) -> RankAgreement:
    values = np.stack(list(scores.values()))  # [models, runs]
    pairs = list(combinations(range(values.shape[1]), 2))
    if len(scores) < _LEAST_MODELS or (values == values[:1]).all(axis=0).any():
        return RankAgreement(task=task, models=len(scores), pairs=len(pairs))
    kendall = [float(stats.kendalltau(values[:, a], values[:, b]).statistic) for a, b in pairs]
    spearman = [float(stats.spearmanr(values[:, a], values[:, b]).statistic) for a, b in pairs]
    return RankAgreement(
        task=task,
        models=len(scores),
        pairs=len(pairs),
        kendall=float(np.mean(kendall)),
        min_kendall=min(kendall),
        spearman=float(np.mean(spearman)),
        min_spearman=min(spearman),
    )
