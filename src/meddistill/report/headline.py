"""The first sentence of a report, and the figures under it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from meddistill.evaluation.results import MEAN_TASK, TEACHER_MEAN, Difference, Result, Results
from meddistill.report.data import ModelCard, ReportData
from meddistill.report.words import between, large, number, plural, signed, signed_between, times

Verdict = Literal["better", "unclear", "worse", "alone"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A figure with what it is."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Headline:
    """`sentence` in words, `verdict` of the student against its best teacher, `tiles` with the figures."""

    sentence: str
    verdict: Verdict
    tiles: tuple[Tile, ...]


_VERDICTS: dict[Verdict, str] = {
    "better": "scores higher than its best teacher",
    "unclear": "does not differ clearly from its best teacher",
    "worse": "scores lower than its best teacher",
    "alone": "was evaluated",
}


def headline(data: ReportData) -> Headline | None:
    """The student against its best teacher on the mean over tasks; None without an evaluated student."""
    results = data.results
    if results is None or not results.named("student"):
        return None
    student = results.named("student")[0]
    task = _headline_task(results, student)
    score = results.main(student, task) if task else None
    if task is None or score is None or score.value is None:
        return None
    best = results.best_teacher(task)
    gap = results.difference(student, best.model, task) if best else None
    verdict = _verdict(gap)
    where = _where(results, task)
    sentence = f"On {where} the student {_VERDICTS[verdict]}"
    if best is not None and gap is not None:
        sentence += f" {best.model}: {number(score.value, 2)} against {number(best.value, 2)}"
        sentence += f", a difference of {signed(gap.value, 2)}{_bracket(gap, results.level)}"
    else:
        sentence += f" at {number(score.value, 2)} ({between(score.low, score.high, 2)})"
    sentence += _size_clause(data.models, student, best)
    tiles = [_score_tile(score, results.level)]
    if gap is not None and best is not None:
        tiles.append(_gap_tile(f"against the best teacher, {best.model}", gap))
    ensemble = results.difference(student, TEACHER_MEAN, task)
    if ensemble is not None:
        tiles.append(
            _gap_tile("against the teacher mean, the average of the teachers' predictions", ensemble)
        )
    for baseline in results.named("baseline"):
        other = results.difference(student, baseline, task)
        if other is not None:
            tiles.append(_gap_tile(f"against {baseline}", other))
    tiles += _size_tiles(data.models, student)
    return Headline(sentence=sentence + ".", verdict=verdict, tiles=tuple(tiles))


def _headline_task(results: Results, student: str) -> str | None:
    """The mean over tasks, or the first task where there is no mean for the student."""
    for task in (MEAN_TASK, *(each.name for each in results.tasks)):
        row = results.main(student, task)
        if row is not None and row.value is not None:
            return task
    return None


def _where(results: Results, task: str) -> str:
    counted = sum(each.in_mean for each in results.tasks)
    return f"the mean over {plural(counted, 'task')}" if task == MEAN_TASK else f"the task {task}"


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


def _score_tile(score: Result, level: float) -> Tile:
    interval = between(score.low, score.high, 2)
    note = (
        f"{level:.0%} interval {interval}"
        if interval
        else f"no interval from {plural(score.patients, 'patient')}"
    )
    return Tile(label="student, mean of main metrics", value=number(score.value, 2), note=note)


def _gap_tile(label: str, gap: Difference) -> Tile:
    interval = signed_between(gap.low, gap.high, 2)
    return Tile(label=label, value=signed(gap.value, 2), note=interval)


def _size_tiles(cards: Sequence[ModelCard], student: str) -> list[Tile]:
    teachers = [card.parameters for card in cards if card.role == "teacher" and card.parameters]
    mine = next((card.parameters for card in cards if card.name == student), None)
    if not mine:
        return []
    note = ""
    if teachers:
        share = mine / sum(teachers)
        note = f"{share:.0%} of its {plural(len(teachers), 'teacher')} together" if len(teachers) > 1 else ""
    return [Tile(label="parameters of the student", value=large(mine), note=note)]
