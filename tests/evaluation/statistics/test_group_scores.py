"""Numbers of groups of patients, with fairlearn as the judge of the point values."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_curve

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.records import GroupGap, GroupScore
from meddistill.evaluation.statistics.groups import GroupScorer, spread
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions

SEXES = ("female", "male")


def _predictions(n: int = 240, classes: int = 2, *, seed: int = 0, **changes: Any) -> ClassPredictions:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, n)
    sex = np.array(SEXES)[random.integers(0, 2, n)]
    noise = random.normal(size=(n, classes)) * np.where(sex == "female", 2.5, 0.5)[:, None]
    known = {
        "classes": tuple(f"class {index}" for index in range(classes)),
        "truth": truth,
        "scores": np.eye(classes)[truth] + noise,
        "settings": ("",) * n,
        "seeds": np.zeros(n, dtype=np.int64),
        "rows": np.arange(1, n + 1),
        "samples": tuple(map(str, range(n))),
        "patients": np.arange(n) // 2,
        "modalities": ("ct",) * n,
        "groups": {"sex": tuple(sex.tolist())},
    }
    return ClassPredictions(**(known | changes))


def _score(
    predictions: Predictions, *, least: int = 20, labels: tuple[str, ...] = SEXES, resamples: int = 200
) -> tuple[list[GroupScore], list[GroupGap]]:
    scorer = GroupScorer(
        model="m",
        task="t",
        family="f",
        metric="balanced_accuracy",
        library="ours",
        resampler=Resampler(BootstrapConfig(resamples=resamples)),
        least=least,
    )
    return scorer.score(predictions, {"sex": labels})


@pytest.mark.parametrize("classes", [2, 4])
def test_points_and_gap_are_fairlearns(classes: int) -> None:
    found = _predictions(classes=classes)
    frame = MetricFrame(
        metrics=balanced_accuracy_score,
        y_true=found.truth,
        y_pred=found.scores.argmax(axis=1),
        sensitive_features=np.array(found.groups["sex"]),
    )
    rows, gaps = _score(found)
    main = {row.label: row for row in rows if row.main}
    assert {label: row.value for label, row in main.items()} == pytest.approx(frame.by_group.to_dict())
    assert gaps[0].value == pytest.approx(frame.difference())
    assert (gaps[0].worst, gaps[0].best) == ("female", "male")
    assert [row.label for row in rows if row.main and row.worst] == ["female"]
    for row in main.values():
        assert row.low < row.value < row.high
        assert row.n == sum(label == row.label for label in found.groups["sex"])
    assert 0 <= gaps[0].low <= gaps[0].value <= gaps[0].high
    assert (gaps[0].n, gaps[0].patients, gaps[0].labels) == (240, 120, 2)


def test_recalls_at_the_youden_point_are_fairlearns() -> None:
    found = _predictions()
    false, true, thresholds = roc_curve(found.truth, found.scores[:, 1])
    threshold = thresholds[np.argmax(true - false)]
    rows, gaps = _score(found)
    for positive in (0, 1):
        frame = MetricFrame(
            metrics=lambda truth, given, positive=positive: recall_score(truth, given, pos_label=positive),
            y_true=found.truth,
            y_pred=(found.scores[:, 1] >= threshold).astype(int),
            sensitive_features=np.array(found.groups["sex"]),
        )
        name = f"recall of class {positive} at the Youden point"
        mine = {row.label: row for row in rows if row.metric == name}
        assert {label: row.value for label, row in mine.items()} == pytest.approx(frame.by_group.to_dict())
        gap = next(gap for gap in gaps if gap.metric == name)
        assert (gap.value, gap.main) == (pytest.approx(frame.difference()), False)
        assert sum(row.n for row in mine.values()) == (found.truth == positive).sum()
    assert sum(row.worst for row in rows if row.main) == 1


def test_more_classes_have_no_operating_point() -> None:
    rows, gaps = _score(_predictions(classes=3))
    assert all(row.main for row in rows)
    assert len(gaps) == 1


def test_the_interval_of_a_gap_is_that_of_independent_halves() -> None:
    """Half-widths of two independent groups add up like variances."""
    found = _predictions(2000, groups={"sex": SEXES[0:1] * 1000 + SEXES[1:2] * 1000})
    rows, gaps = _score(found, resamples=1000)
    half = [(row.high - row.low) / 2 for row in rows if row.main]
    assert (gaps[0].high - gaps[0].low) / 2 < np.hypot(*half) * 1.2


def test_small_groups_are_counted_and_hidden() -> None:
    labels = ("male",) * 230 + ("female",) * 10
    rows, gaps = _score(_predictions(groups={"sex": labels}))
    female = next(row for row in rows if row.label == "female" and row.main)
    assert (female.n, female.patients, female.value) == (10, 5, None)
    assert female.note == "hidden: fewer than 20 patients"
    assert (gaps[0].value, gaps[0].labels, gaps[0].note) == (None, 1, "no two groups that can be scored")
    assert not any(row.worst for row in rows)
    shown = next(
        row for row in _score(_predictions(groups={"sex": labels}), least=5)[0] if row.label == "female"
    )
    assert shown.value is not None


def test_rows_without_a_group_are_counted() -> None:
    labels = ("male",) * 100 + ("female",) * 100 + ("",) * 40
    rows, gaps = _score(_predictions(groups={"sex": labels}), labels=(*SEXES, ""))
    blank = next(row for row in rows if row.label == "" and row.main)
    assert (blank.n, blank.value, blank.note) == (40, None, "rows whose group is not known")
    assert gaps[0].n == 200


def test_one_group_only_and_nobody_known() -> None:
    rows, gaps = _score(_predictions(groups={"sex": ("male",) * 240}), labels=("male",))
    assert [row.value is None for row in rows if row.main] == [False]
    assert gaps[0].value is None
    rows, gaps = _score(_predictions(groups={"sex": ("",) * 240}), labels=("",))
    assert [gap.value for gap in gaps] == [None] * 3
    assert all(row.value is None for row in rows)


def test_one_patient_has_values_and_no_interval() -> None:
    rows, gaps = _score(_predictions(patients=np.zeros(240, dtype=np.int64)), least=1)
    assert all(row.value is not None and row.low is None for row in rows)
    assert all(gap.value is not None and gap.low is None for gap in gaps)


def test_a_class_that_a_group_lacks_is_said() -> None:
    truth = np.array([0, 1] * 60 + [1] * 120)
    labels = ("female",) * 120 + ("male",) * 120
    rows, gaps = _score(_predictions(truth=truth, groups={"sex": labels}))
    male = next(row for row in rows if row.label == "male" and row.main)
    assert male.note == "no rows of class 0"
    assert male.value == pytest.approx((_predictions(truth=truth).scores[120:].argmax(axis=1) == 1).mean())
    absent = next(gap for gap in gaps if gap.metric.startswith("recall of class 0"))
    assert absent.value is None


def test_ties_everywhere_have_no_worst_group() -> None:
    rows, gaps = _score(_predictions(scores=np.zeros((240, 2))))
    assert {row.value for row in rows if row.main} == {0.5}
    assert (gaps[0].value, gaps[0].low, gaps[0].high) == (0, 0, 0)
    assert not any(row.worst for row in rows)


def test_seeds_are_averaged() -> None:
    first, second = _predictions(seed=1), _predictions(seed=2)
    joined = replace(
        first,
        truth=np.tile(first.truth, 2),
        scores=np.concatenate([first.scores, second.scores]),
        settings=("",) * 480,
        seeds=np.repeat([0, 1], 240),
        rows=np.tile(first.rows, 2),
        samples=first.samples * 2,
        patients=np.tile(first.patients, 2),
        modalities=("ct",) * 480,
        groups={"sex": first.groups["sex"] * 2},
    )
    male = {row.metric: row for row in _score(joined)[0] if row.label == "male"}
    alone = [
        {
            row.metric: row.value
            for row in _score(replace(first, scores=each.scores))[0]
            if row.label == "male"
        }
        for each in (first, second)
    ]
    for metric, row in male.items():
        assert row.value == pytest.approx(np.mean([each[metric] for each in alone])), metric
        assert row.n <= 240


@pytest.mark.parametrize("part", [slice(0, 7), slice(3, 4), slice(0, 0)])
def test_some_rows_of_a_dump_are_a_dump(part: slice) -> None:
    whole = _predictions(classes=3)
    mask = np.zeros(240, dtype=bool)
    mask[part] = True
    taken = whole.take(mask)
    np.testing.assert_array_equal(taken.scores, whole.scores[part])
    np.testing.assert_array_equal(taken.truth, whole.truth[part])
    assert taken.samples == whole.samples[part]
    assert taken.groups == {"sex": whole.groups["sex"][part]}
    assert taken.classes == whole.classes


def test_the_whole_as_a_group_is_the_main_metric() -> None:
    """By the way of every family, and by the short one of classes."""
    resampler = Resampler(BootstrapConfig(resamples=50))
    found = _predictions()
    long = next(score for score in found.metrics(resampler) if score.main)
    short = found.take(np.ones(240, dtype=bool)).main_score(resampler)
    np.testing.assert_array_equal(long.replicates, short.replicates)
    assert (long.n, long.patients, short.main) == (short.n, short.patients, True)
    ranks = RankPredictions(
        images=4,
        texts=4,
        directions=np.array([0, 0, 1, 1]),
        ranks=np.array([1.0, 2.0, 1.0, 3.0]),
        shares=np.ones(4),
        positives=np.ones(4, dtype=np.int64),
        rows=np.array([1, 2, 1, 2]),
        samples=("a", "b", "a", "b"),
        patients=np.array([0, 1, 0, 1]),
        modalities=("",) * 4,
        groups={"sex": ("female", "male", "female", "male")},
    )
    score = ranks.take(np.array([True, False, True, False])).main_score(resampler)
    assert (score.replicates[0], score.n, score.patients) == (1.0, 2, 1)
    assert json.loads(json.dumps(dict(ranks.facts()))) == {"images": 4, "texts": 4}


def test_spread_is_undefined_where_a_part_is() -> None:
    found = spread([np.array([0.2, np.nan, 0.5]), np.array([0.5, 1.0, 0.5])])
    np.testing.assert_allclose(found, [0.3, np.nan, 0.0])


def test_speed_of_many_rows_and_groups() -> None:
    """5,000 patients, 1,000 resamples, two groups with two rates: seconds, not minutes."""
    import time

    found = _predictions(5000, patients=np.arange(5000))
    start = time.process_time()
    _score(found, resamples=1000)
    assert time.process_time() - start < 10
