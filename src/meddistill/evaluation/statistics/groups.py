"""A model on groups of patients: every group's number, the worst, and how far best and worst are apart.

All numbers of a model come from its dump, restricted to the rows of a group, on the resamples that serve
everything else. Groups with too few patients are counted and not scored: their numbers are noise, and may
tell of single patients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Flags
from meddistill.evaluation.base.bootstrap import (
    DECIMALS,
    Estimate,
    Replicates,
    Resampler,
    estimate,
    weighted_mean,
)
from meddistill.evaluation.base.predictions import Predictions, Rate
from meddistill.evaluation.base.records import GroupGap, GroupScore
from meddistill.evaluation.base.score import UNDEFINED, Score

BLANK = "rows whose group is not known"


@dataclass(frozen=True, kw_only=True)
class _Counted:
    n: int
    patients: int


@dataclass(frozen=True, kw_only=True)
class GroupScorer:
    """Scores one model on the groups of one task, whose main metric is `metric`.

    `least` is how many patients a group must have; `library` goes to the rows as it is.
    """

    model: str
    task: str
    family: str
    metric: str
    library: str
    resampler: Resampler
    least: int

    def score(
        self, predictions: Predictions, orders: Mapping[str, Sequence[str]]
    ) -> tuple[list[GroupScore], list[GroupGap]]:
        """Scores and gaps of the groups of `predictions`; `orders` lists the labels of each, "" too."""
        scores: list[GroupScore] = []
        gaps: list[GroupGap] = []
        for group, labels in orders.items():
            column = np.array(predictions.groups[group], dtype=object)
            for measure in self._measures(predictions):
                rows, gap = self._one(
                    predictions, measure, group, {label: column == label for label in labels}
                )
                scores += rows
                gaps.append(gap)
        return scores, gaps

    def _measures(self, predictions: Predictions) -> Iterator["_Measure"]:
        def main(mask: Flags) -> Score | None:
            return predictions.take(mask).main_score(self.resampler)

        everything = predictions.tested
        yield _Measure(name=self.metric, rows=everything, score=main, main=True)
        for name, rate in predictions.rates().items():
            score = _rate_score(predictions, rate, name, self.resampler)
            yield _Measure(name=name, rows=rate.relevant, score=score, main=False)

    def _one(
        self, predictions: Predictions, measure: "_Measure", group: str, masks: Mapping[str, Flags]
    ) -> tuple[list[GroupScore], GroupGap]:
        scores: dict[str, Score] = {}
        rows: list[GroupScore] = []
        scored = np.zeros(len(predictions.rows), dtype=bool)
        for label, column in masks.items():
            mask = column & measure.rows
            counted = _counted(predictions, mask)
            score = measure.score(mask) if label and counted.patients >= self.least else None
            if score is not None and np.isfinite(score.replicates[0]):
                scores[label] = score
                scored |= mask
            note = self._note(label, counted.patients, score)
            if measure.main:
                note = note or predictions.missing_in(mask)
            rows.append(self._row(measure, (group, label), counted, score=score, note=note))
        gap = self._gap(measure, group, _counted(predictions, scored), scores)
        rows = [row.model_copy(update={"worst": bool(gap.value) and row.label == gap.worst}) for row in rows]
        return rows, gap

    def _note(self, label: str, patients: int, score: Score | None) -> str:
        if not label:
            return BLANK
        if patients < self.least:
            return f"hidden: fewer than {self.least} patients"
        return UNDEFINED if score is None or not np.isfinite(score.replicates[0]) else ""

    def _row(
        self, measure: "_Measure", place: tuple[str, str], rows: _Counted, *, score: Score | None, note: str
    ) -> GroupScore:
        level = self.resampler.config.level
        interval = Estimate(value=None)
        if score is not None:
            interval = estimate(score.replicates, patients=score.patients, level=level)
        return GroupScore(
            **self._common(measure),
            group=place[0],
            label=place[1],
            **vars(interval),
            n=rows.n if score is None else score.n,
            patients=rows.patients,
            note=note,
        )

    def _gap(self, measure: "_Measure", group: str, rows: _Counted, scores: Mapping[str, Score]) -> GroupGap:
        values = {label: float(score.replicates[0]) for label, score in scores.items()}
        common = {
            **self._common(measure),
            "group": group,
            "labels": len(scores),
            "n": rows.n,
            "patients": rows.patients,
        }
        if len(scores) < 2:
            return GroupGap(**common, note="no two groups that can be scored")
        replicates = spread([score.replicates for score in scores.values()])
        least = min(score.patients for score in scores.values())
        gap = estimate(replicates, patients=least, level=self.resampler.config.level)
        return GroupGap(
            **common,
            **vars(gap),
            best=max(values, key=lambda label: values[label]),
            worst=min(values, key=lambda label: values[label]),
        )

    def _common(self, measure: "_Measure") -> dict[str, object]:
        return {
            "model": self.model,
            "task": self.task,
            "family": self.family,
            "metric": measure.name,
            "main": measure.main,
            "seed": self.resampler.config.seed,
            "library": self.library,
        }


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """A number of any rows: those of `rows` enter it, `score` computes it for a part of them."""

    name: str
    rows: Flags
    score: Callable[[Flags], Score | None]
    main: bool


def _counted(predictions: Predictions, mask: Flags) -> _Counted:
    rows, patients = predictions.rows[mask], predictions.patients[mask]
    return _Counted(n=len(np.unique(rows)), patients=len(np.unique(patients)))


def spread(parts: Sequence[Replicates]) -> Replicates:
    """Highest minus lowest of several numbers, resample by resample; undefined where one of them is."""
    stacked = np.stack(parts)
    gap: Replicates = (stacked.max(axis=0) - stacked.min(axis=0)).round(DECIMALS)
    return gap


def _rate_score(
    predictions: Predictions, rate: Rate, name: str, resampler: Resampler
) -> Callable[[Flags], Score]:
    """The share of hits among a part of the relevant rows."""

    def score(mask: Flags) -> Score:
        patients, owners = np.unique(predictions.patients[mask], return_inverse=True)
        replicates = weighted_mean(rate.hit[mask].astype(np.float64), resampler.weights(patients), owners)
        n = len(np.unique(predictions.rows[mask]))
        return Score(metric=name, replicates=replicates, n=n, patients=len(patients))

    return score
