"""Models compared over tasks: wins and losses, Wilcoxon signed ranks, Friedman's test on ranks.

After Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (2006). The tests take tasks
for independent: tasks on one table are not, and whoever calls says so beside the p value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import stats

from meddistill.arrays import Floats
from meddistill.evaluation.base.bootstrap import DECIMALS

LEAST_WILCOXON: Final = 6  # with five tasks the least two-sided p is 2 / 2^5 = 0.06
LEAST_FRIEDMAN_TASKS: Final = 5
LEAST_FRIEDMAN_MODELS: Final = 3
_MOST_TIED: Final = 13  # tasks; beyond, scipy takes the normal distribution rather than all 2^n signs


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A difference between two models on one task with its interval, None where there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Wins, ties and losses: by whether the interval leaves zero out, and by the values alone."""

    wins: int
    ties: int
    losses: int
    raw_wins: int
    raw_ties: int
    raw_losses: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A statistic with its p value; both None where the test was not made, and `note` says why."""

    statistic: float | None = None
    p_value: float | None = None
    note: str = ""


def tally(gaps: Sequence[Gap]) -> Tally:
    """Count tasks; one without an interval is a tie, and a win or loss by its value at most."""
    wins = sum(gap.low is not None and gap.low > 0 for gap in gaps)
    losses = sum(gap.high is not None and gap.high < 0 for gap in gaps)
    values = [round(gap.value, DECIMALS) for gap in gaps]
    raw_wins, raw_losses = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return Tally(
        wins=wins,
        ties=len(gaps) - wins - losses,
        losses=losses,
        raw_wins=raw_wins,
        raw_ties=len(gaps) - raw_wins - raw_losses,
        raw_losses=raw_losses,
    )


def signed_rank(differences: Sequence[float]) -> Outcome:
    """Wilcoxon's signed-rank test, two-sided, that differences over tasks are symmetric around zero.

    Tasks without a difference are dropped (Wilcoxon's own rule); if all are, p is 1. The distribution is
    exact, with ties among up to 13 tasks that are left, without ties as far as scipy's goes; else normal. Not
    made below six tasks, which cannot give p < 0.05.
    """
    if len(differences) < LEAST_WILCOXON:
        return Outcome(note=f"no test below {LEAST_WILCOXON} tasks: p could not come below 0.05")
    rounded = np.round(np.asarray(differences, dtype=np.float64), DECIMALS)
    left = rounded[rounded != 0]
    if not len(left):
        return Outcome(statistic=0.0, p_value=1.0)
    ranks = stats.rankdata(np.abs(left))
    if len(np.unique(ranks)) < len(ranks) <= _MOST_TIED:
        return _with_ties(left, ranks)
    result = stats.wilcoxon(left)
    return Outcome(statistic=float(result.statistic), p_value=float(result.pvalue))


def _with_ties(differences: Floats, ranks: Floats) -> Outcome:
    """What scipy's `wilcoxon` finds by giving every difference either sign, but for all of them at once."""

    def of_positive(given: Floats, axis: int) -> Floats:
        total: Floats = np.where(given > 0, ranks, 0.0).sum(axis=axis)
        return total

    result = stats.permutation_test(
        (differences,), of_positive, permutation_type="samples", n_resamples=2**_MOST_TIED, vectorized=True
    )
    least = min(float(result.statistic), float(ranks.sum() - result.statistic))
    return Outcome(statistic=least, p_value=float(result.pvalue))


def mean_ranks(scores: Floats) -> Floats:
    """Mean over tasks of the rank of each model; `scores` [tasks, models], the highest has rank 1."""
    ranks: Floats = stats.rankdata(-np.round(scores, DECIMALS), axis=1).mean(axis=0)
    return ranks


def friedman(scores: Floats) -> Outcome:
    """Friedman's test that all models rank alike; `scores` [tasks, models].

    χ² with (models - 1) degrees of freedom, corrected for ties. Not made below five tasks or three models,
    where the approximation says nothing; where all models tie on every task p is 1.
    """
    tasks, models = scores.shape
    if tasks < LEAST_FRIEDMAN_TASKS or models < LEAST_FRIEDMAN_MODELS:
        return Outcome(
            note=f"no Friedman test below {LEAST_FRIEDMAN_TASKS} tasks and {LEAST_FRIEDMAN_MODELS} models"
        )
    rounded = np.round(scores, DECIMALS)
    if (rounded == rounded[:, :1]).all():
        return Outcome(statistic=0.0, p_value=1.0)
    test = stats.friedmanchisquare(*rounded.T)
    return Outcome(statistic=float(test.statistic), p_value=float(test.pvalue))


def critical_difference(tasks: int, models: int, alpha: float) -> float:
    """By how much two mean ranks must differ (test of Nemenyi): q √(k (k + 1) / (6 N)).

    q is the upper `alpha` point of the studentised range of k models with infinitely many degrees of freedom,
    divided by √2.
    """
    q = float(stats.studentized_range.ppf(1 - alpha, models, np.inf)) / 2**0.5
    return float(q * (models * (models + 1) / (6 * tasks)) ** 0.5)


def complete(
    scores: Mapping[tuple[str, str], float], models: Sequence[str], tasks: Sequence[str]
) -> tuple[list[str], Floats]:
    """Models that have a score on every task, and the scores [tasks, models] of these."""
    whole = [model for model in models if all((model, task) in scores for task in tasks)]
    values = [[scores[model, task] for model in whole] for task in tasks]
    return whole, np.array(values, dtype=np.float64).reshape(len(tasks), len(whole))
