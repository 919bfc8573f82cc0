"""What comparisons of models and of groups of patients found, as rows of the results."""

from collections.abc import Mapping

from meddistill.strict import Strict


class Comparison(Strict):
    """One model against another over all tasks that both can do and that the suite's mean counts.

    A task is a win where the interval of the paired difference lies above zero, a loss where it lies below,
    else a tie; `raw_` counts look at the values alone. `p_value` is of the two-sided Wilcoxon signed-rank
    test over tasks, None where it was not made, and `note` then says why; `p_holm` is corrected over the
    others that the model is compared with. `mean` and `other_mean` are the means of their main metrics over
    these tasks, `low` and `high` bound the paired interval of their difference over patients. `seen_tasks`:
    one of the two was pretrained on their data sets. `seed` is that of the resamples behind wins, losses and
    the interval.
    """

    model: str
    other: str
    tasks: int
    wins: int
    ties: int
    losses: int
    raw_wins: int
    raw_ties: int
    raw_losses: int
    mean_difference: float
    mean: float | None = None
    other_mean: float | None = None
    low: float | None = None
    high: float | None = None
    statistic: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    seen_tasks: tuple[str, ...] = ()
    note: str = ""
    seed: int
    library: str


class Ranking(Strict):
    """Mean ranks of the models over tasks (1 is best; ties share) and the Friedman test that they are equal.

    Two models differ at `alpha` by the test of Nemenyi where their mean ranks differ by more than
    `critical_difference`. `left_out` are models that cannot do all the tasks.
    """

    tasks: tuple[str, ...]
    mean_ranks: Mapping[str, float]
    statistic: float | None = None
    p_value: float | None = None
    critical_difference: float | None = None
    alpha: float
    left_out: tuple[str, ...] = ()
    note: str = ""


class Place(Strict):
    """Where a model stands among all single models on one task, over resamples of patients.

    `first` is the share of resamples in which it has the highest main metric (equal ones share), `rank` its
    mean rank from 1, `low` and `high` the percentile interval of the rank.
    """

    model: str
    task: str
    first: float
    rank: float
    low: float | None = None
    high: float | None = None
    models: int


class GroupScore(Strict):
    """A number of one model on the patients of one group, `label` of `group` ("female" of "sex").

    `label` is "" for rows where the group is not known. `value` is None where the group is too small to be
    shown or the metric is not defined on it; `note` then says why. `worst` marks the lowest of the labels.
    `main` tells the task's main metric from rates at a fixed operating point.
    """

    model: str
    task: str
    family: str
    metric: str
    group: str
    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int
    patients: int
    failed: int = 0
    seed: int
    main: bool = True
    worst: bool = False
    note: str = ""
    library: str


class GroupGap(Strict):
    """Highest minus lowest value of a metric over the labels of a group that were scored.

    The interval holds max - min of every resample. These are never below zero and lie above the true gap on
    average, most of all with many small groups: an interval that ends near zero is the strongest evidence for
    no gap, and one above zero is no test. `value` is None with fewer than two scored labels.
    """

    model: str
    task: str
    family: str
    metric: str
    group: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: str = ""
    worst: str = ""
    labels: int
    n: int
    patients: int
    failed: int = 0
    seed: int
    main: bool = True
    note: str = ""
    library: str
