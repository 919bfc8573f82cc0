"""The first sentence of a report, and the figures under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from meddistill.evaluation.base.records import Comparison
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Difference, Result, Results
from meddistill.report.data import ModelCard, ReportData
from meddistill.report.formatting import (
    between,
    large,
    metric,
    number,
    plain_name,
    plural,
    signed,
    signed_between,
    times,
)
from meddistill.report.models import lead_name, model_styles
from meddistill.report.phrases import phrases

Verdict = Literal["better", "unclear", "worse", "alone"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure with what it is."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """`sentence` in words, `verdict` of a student against its best teacher, `tiles` with the figures."""

    sentence: str
    verdict: Verdict
    tiles: tuple[Tile, ...]


_VERDICTS: dict[Verdict, str] = {
    "better": "scores higher than",
    "unclear": "does not differ clearly from",
    "worse": "scores lower than",
}
_MOST_NAMED: Final = 3
_MOST_TILES: Final = 4


def headline(data: ReportData) -> Headline | None:
    """The lead on the mean over tasks, a student against its best teacher; None where nothing was scored."""
    results = data.results
    styles = model_styles(results, data.models)
    lead = lead_name(styles)
    task = _headline_task(results, lead) if results is not None else None
    score = results.main(lead, task) if results is not None and task else None
    if results is None or task is None or score is None or score.value is None:
        return None
    words = phrases(styles)
    best = results.best_teacher(task) if words.distilled else None
    gap = results.difference(lead, best.model, task) if best else None
    sentence = f"On {_where(results, task)} {words.who} "
    if best is not None and gap is not None:
        sentence += f"{_VERDICTS[_verdict(gap)]} its best teacher"
        sentence += f" {best.model}: {number(score.value, 2)} against {number(best.value, 2)}"
        sentence += f", a difference of {signed(gap.value, 2)}{_bracket(gap, results.level)}"
    else:
        interval = between(score.low, score.high, 2)
        sentence += f"scores {number(score.value, 2)}" + (f" ({interval})" if interval else "")
        sentence += _others(results, lead, task)
    sentence += _size_clause(data.models, lead, best)
    tiles = [_score_tile(score, words.short, results.level)]
    if gap is not None and best is not None:
        tiles.append(_gap_tile(f"against the best teacher, {best.model}", gap))
    tiles += _gap_tiles(results, lead, task)
    tiles += _size_tiles(data.models, lead, words.who)
    return Headline(sentence=sentence + ".", verdict=_verdict(gap), tiles=tuple(tiles))


def _others(results: Results, lead: str, task: str) -> str:
    """`; it scores higher than a, and does not differ clearly from b and c`: the lead against all others."""
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in _VERDICTS}
    for gap in results.differences:
        if (gap.model, gap.task) == (lead, task) and gap.other_role != "ensemble":
            by_verdict[_verdict(gap)].append(gap.other)
    parts = [f"{_VERDICTS[verdict]} {_names(names)}" for verdict, names in by_verdict.items() if names]
    return f"; it {', '.join(parts)}" if parts else ""


def _names(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMED:
        return f"{len(names)} other models"
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def _gap_tiles(results: Results, lead: str, task: str) -> list[Tile]:
    """The lead against the teacher mean and, if they are few, frozen models and baselines."""
    tiles = []
    ensemble = results.difference(lead, TEACHER_MEAN, task)
    if ensemble is not None:
        tiles.append(
            _gap_tile("against the teacher mean, the average of the teachers' predictions", ensemble)
        )
    frozen = [
        row for row in results.comparisons if row.model == lead and row.other in results.named("frozen")
    ]
    if len(frozen) <= _MOST_TILES:
        tiles += [_frozen_tile(results, row) for row in frozen]
    others = [results.difference(lead, name, task) for name in results.named("baseline")]
    gaps = [gap for gap in others if gap is not None]
    if len(gaps) <= _MOST_TILES:
        tiles += [_gap_tile(f"against {gap.other}", gap) for gap in gaps]
    return tiles


def _headline_task(results: Results, lead: str) -> str | None:
    """The mean over tasks, or the first task where there is no mean for the lead."""
    for task in (MEAN_TASK, *(each.name for each in results.tasks)):
        row = results.main(lead, task)
        if row is not None and row.value is not None:
            return task
    return None


def _where(results: Results, task: str) -> str:
    counted = sum(each.include_in_mean for each in results.tasks)
    return f"the mean over {plural(counted, 'task')}" if task == MEAN_TASK else f"the task {plain_name(task)}"


def _verdict(gap: Difference | None) -> Verdict:
    if gap is None:
        return "alone"
    if gap.low is None or gap.high is None or gap.low <= 0 <= gap.high:
        return "unclear"
    return "better" if gap.low > 0 else "worse"


def _bracket(gap: Difference, level: float) -> str:
    interval = signed_between(gap.low, gap.high, 2)
    return f" ({level:.0%} interval {interval})" if interval else ""


def _size_clause(cards: Sequence[ModelCard], student: str, best: Result | None) -> str:
    sizes = {card.name: card.parameters for card in cards}
    mine, theirs = sizes.get(student), sizes.get(best.model) if best else None
    if not mine or not theirs:
        return ""
    ratio = theirs / mine
    size = f"({large(mine)} against {large(theirs)} parameters)"
    if 0.95 < ratio < 1.05:
        return f". Both have about the same size {size}"
    return f". It is {times(max(ratio, 1 / ratio))} times {'smaller' if ratio > 1 else 'larger'} {size}"


def _score_tile(score: Result, who: str, level: float) -> Tile:
    interval = between(score.low, score.high, 2)
    note = (
        f"{level:.0%} interval {interval}"
        if interval
        else f"no interval from {plural(score.patients, 'patient')}"
    )
    what = "mean of main metrics" if score.task == MEAN_TASK else metric(score.metric)
    return Tile(label=f"{who}, {what}", value=number(score.value, 2), note=note)


def _frozen_tile(results: Results, row: Comparison) -> Tile:
    """Over the tasks that both have: a plain encoder has no text tower."""
    counted = sum(task.include_in_mean for task in results.tasks)
    interval = signed_between(row.low, row.high, 2)
    over = f"over {row.tasks} of {plural(counted, 'task')}"
    return Tile(
        label=f"against the frozen encoder {row.other}",
        value=signed(row.mean_difference, 2),
        note=f"{interval}, {over}" if interval else over,
    )


def _gap_tile(label: str, gap: Difference) -> Tile:
    interval = signed_between(gap.low, gap.high, 2)
    return Tile(label=label, value=signed(gap.value, 2), note=interval)


def _size_tiles(cards: Sequence[ModelCard], student: str, who: str) -> list[Tile]:
    teachers = [card.parameters for card in cards if card.role == "teacher" and card.parameters]
    mine = next((card.parameters for card in cards if card.name == student), None)
    if not mine:
        return []
    note = ""
    if len(teachers) > 1:
        note = f"{mine / min(teachers):.0%} of its smallest teacher, "
        note += f"{mine / sum(teachers):.0%} of all {len(teachers)}"
    return [Tile(label=f"parameters of {who}", value=large(mine), note=note)]
