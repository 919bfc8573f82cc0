"""The tables of the study of AMMKD, from the small tables of ranks that its parts leave."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from meddistill.evaluation.base.bootstrap import estimate
from meddistill.evaluation.tasks.retrieval.metrics import HITS
from studies.ammkd_arms import (
    ALONE,
    BOUNDS,
    CHOSEN,
    CONFIDENCE,
    DISAGREEING_BY_KL,
    FROM,
    TEACHERS,
    UNIFORM,
    bounded,
    disagreeing,
    disagreeing_with,
    longer,
    longer_for,
)
from studies.rank_tables import RESAMPLER, RankTable, Replicates, mean_recall_sum
from studies.tables import table

Runs = Mapping[str, Mapping[int, RankTable]]


def teacher_part(name: str) -> str:
    """The part that trains a teacher."""
    return f"teacher_{name}"


def load_runs(folder: Path) -> Runs:
    """Part → seed → ranks, of every table in `folder`."""
    found: dict[str, dict[int, RankTable]] = {}
    for path in sorted(folder.glob("*_seed*.csv")):
        name, _, seed = path.stem.rpartition("_seed")
        found.setdefault(name, {})[int(seed)] = RankTable.load(path)
    return found


def best_bound(validation: Runs, seed: int) -> float | None:
    """The bound of min_norm with the best recall sum on validation; None while one of them is not there."""
    sums = {
        bound: float(validation[bounded(bound)][seed].recall_sum[0])
        for bound in BOUNDS
        if seed in validation.get(bounded(bound), {})
    }
    return max(sums, key=lambda bound: sums[bound]) if len(sums) == len(BOUNDS) else None


def summarize(runs: Runs, *, bound: float | None) -> str:
    """The tables as Markdown, with a verdict on the teachers first."""
    parts = [_verdict(runs), overview(runs), _leads(runs, bound), _shares(runs)]
    return "\n\n".join(part for part in parts if part)


def _verdict(runs: Runs) -> str:
    """Whether the teachers know more than the student learns alone; without that the study says nothing."""
    there = [name for name in TEACHERS if teacher_part(name) in runs]
    if ALONE not in runs or not there:
        return ""
    lines, better = [], False
    for name in there:
        lead = _lead(runs, teacher_part(name), ALONE)
        better = better or _bounds(lead)[0] > 0
        lines.append(f"teacher {name} minus {ALONE} {_words(lead, signed=True)}")
    opening = (
        "The teachers know more than the student alone"
        if better
        else "**Void: the teachers do not beat the student alone**, and nothing below is about distilling"
    )
    return f"{opening}: {'; '.join(lines)}, recall sums."


def overview(runs: Runs) -> str:
    """A row a model, the best first: recalls, their sum with its interval and of each seed, what it costs."""
    rows = []
    for name in sorted(runs, key=lambda each: -float(_sum(runs, each)[0])):
        tables = list(runs[name].values())
        recalls = [f"{np.mean([each.recalls[hit][0] for each in tables]):.1f}" for hit in HITS]
        facts = tables[0].facts
        costs = [f"{facts.multiply_adds / 1e6:.0f}", f"{facts.parameters / 1e6:.1f}"]
        each = ", ".join(f"{one.recall_sum[0]:.1f}" for one in tables) if len(tables) > 1 else ""
        rows.append([name, str(len(tables)), *recalls, _words(_sum(runs, name)), each, *costs])
    header = [_title(hit) for hit in HITS]
    return table(
        ["model", "seeds", *header, "recall sum", "of each seed", "multiply-adds, M", "parameters, M"],
        rows,
    )


def _leads(runs: Runs, bound: float | None) -> str:
    """Paired differences of recall sums, on the seeds that both have."""
    if bound is None:
        return ""
    chosen, wrong, sure = bounded(bound), disagreeing_with(CHOSEN), disagreeing_with(CONFIDENCE)
    others = [name for name in disagreeing(bound) if name != wrong]
    by_kl = tuple(reversed(DISAGREEING_BY_KL))
    taught = longer_for(CHOSEN)
    pairs = [
        by_kl,
        *((chosen, other) for other in (UNIFORM, *FROM.values(), ALONE)),
        *((wrong, other) for other in (*others, *FROM.values(), ALONE)),
        *((sure, other) for other in (disagreeing_with(UNIFORM), *FROM.values())),
        *((taught, other) for other in longer(bound) if other != taught),
    ]
    compared = {name for pair in pairs for name in pair if name not in (*FROM.values(), ALONE)}
    pairs += [(name, UNIFORM) for name in runs if name not in compared]
    rows = []
    for name, other in dict.fromkeys(pairs):
        if set(runs.get(name, {})) & set(runs.get(other, {})):
            share = _sum(runs, name, like=other) / _sum(runs, other, like=name) - 1
            words = f"{_words(100 * share, signed=True)} %"
            rows.append([name, other, _words(_lead(runs, name, other), signed=True), words])
    return table(["model", "minus", "recall sum", "of it"], rows)


def _shares(runs: Runs) -> str:
    """What part of the better teacher's recall sum each model has, at what part of its multiply-adds."""
    teachers = [teacher_part(name) for name in TEACHERS if teacher_part(name) in runs]
    if not teachers:
        return ""
    best = max(teachers, key=lambda name: float(_sum(runs, name)[0]))
    whole = next(iter(runs[best].values())).facts.multiply_adds
    rows = []
    for name in runs:
        if name not in teachers:
            cost = next(iter(runs[name].values())).facts.multiply_adds / whole
            share = _words(100 * _sum(runs, name) / _sum(runs, best))
            rows.append([name, f"{share} %", f"{cost:.2f}"])
    return table(["model", f"share of {best}'s recall sum", "share of its multiply-adds"], rows)


def _sum(runs: Runs, name: str, *, like: str | None = None) -> Replicates:
    """Mean recall sum over seeds; `like` names another part, whose seeds count alone."""
    seeds = _seeds(runs[name], runs[like] if like else runs[name])
    return mean_recall_sum([runs[name][seed] for seed in seeds])


def _lead(runs: Runs, name: str, other: str) -> Replicates:
    return _sum(runs, name, like=other) - _sum(runs, other, like=name)


def _seeds(mine: Mapping[int, RankTable], theirs: Mapping[int, RankTable]) -> Sequence[int]:
    """The seeds that both have; all of mine where the other is a teacher, which has one for all."""
    both = [seed for seed in mine if seed in theirs]
    return both if both else list(mine)


def _title(hit: str) -> str:
    direction, _, k = hit.partition("_hit_at_")
    return f"{direction.replace('_', ' ')} R@{k}"


def _bounds(replicates: Replicates) -> tuple[float, float]:
    found = estimate(replicates, patients=2, level=RESAMPLER.config.level)
    if found.low is None or found.high is None:
        return float("nan"), float("nan")
    return found.low, found.high


def _words(replicates: Replicates, *, signed: bool = False) -> str:
    style = "{:+.1f}" if signed else "{:.1f}"
    low, high = _bounds(replicates)
    return f"{style.format(replicates[0])} ({style.format(low)} to {style.format(high)})"
