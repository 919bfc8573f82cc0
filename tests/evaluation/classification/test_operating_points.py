"""Operating points: thresholds against a search over all of them, what they lead to by hand."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_curve

from meddistill.evaluation.tasks.classification.config import OperatingPoint
from meddistill.evaluation.tasks.classification.operating_points import at_threshold, setting_of, threshold
from meddistill.evaluation.tasks.classification.predictions import unresampled


def _point(**rule: object) -> OperatingPoint:
    return OperatingPoint.model_validate(rule)


def _rows(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    positive = random.random(n) < 0.3
    return positive, np.round(random.normal(size=n) + positive, 1)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 1.0])
def test_sensitivity_and_specificity_are_reached_and_no_more_than_needed(target: float) -> None:
    positive, scores = _rows()
    held = threshold(positive, scores, _point(sensitivity=target))
    assert held is not None
    assert (scores[positive] >= held).mean() >= target
    above = scores[scores > held]
    assert (scores[positive] >= above.min()).mean() < target
    held = threshold(positive, scores, _point(specificity=target))
    assert held is not None
    assert (scores[~positive] < held).mean() >= target
    below = scores[scores < held]
    assert (scores[~positive] < below.max()).mean() < target


def test_youden_is_that_of_the_roc_curve() -> None:
    positive, scores = _rows()
    fpr, tpr, _ = roc_curve(positive, scores, drop_intermediate=False)
    held = threshold(positive, scores, _point(youden=True))
    assert held is not None
    mine = (scores[positive] >= held).mean() - (scores[~positive] >= held).mean()
    assert mine == pytest.approx((tpr - fpr).max())


def test_a_share_that_misses_its_decimal_by_rounding_counts() -> None:
    """19 of 20 are 0.95, although 1 - 1/20 is less than that in floating point or more."""
    positive = np.array([True] * 20 + [False])
    scores = np.append(np.arange(20.0), -1.0)
    assert threshold(positive, scores, _point(sensitivity=0.95)) == 1.0


def test_specificity_that_only_calling_nobody_reaches() -> None:
    positive, scores = np.array([True, False]), np.array([0.5, 0.5])
    held = threshold(positive, scores, _point(specificity=1.0))
    assert held is not None
    assert np.isfinite(held)
    assert not (scores >= held).any()


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_no_threshold_from_one_class(truth: list[bool]) -> None:
    for rule in ({"sensitivity": 0.9}, {"specificity": 0.9}, {"youden": True}):
        assert threshold(np.array(truth), np.array([0.1, 0.9]), _point(**rule)) is None


def test_what_a_threshold_leads_to_by_hand() -> None:
    """Of 4 positive rows 3 are called, of 6 negative ones 2; the second resample has no called row."""
    positive = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    called = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    weights = np.ones((2, 10), np.float32)
    weights[1, called] = 0
    found = at_threshold(positive, called, weights, np.arange(10))
    expected = {"sensitivity": 3 / 4, "specificity": 4 / 6, "ppv": 3 / 5, "npv": 4 / 5, "prevalence": 0.4}
    assert {name: values[0] for name, values in found.items()} == pytest.approx(expected)
    assert np.isnan(found["ppv"][1])
    assert found["npv"][1] == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    "rule", [{}, {"sensitivity": 0.9, "youden": True}, {"youden": False}, {"sensitivity": 1.2}]
)
def test_refused_rules(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        _point(**rule)


def test_where_a_threshold_comes_from_is_said() -> None:
    point = _point(sensitivity=0.95)
    assert setting_of(point, on_validation=True) == "sensitivity ≥ 0.95, threshold from validation"
    assert "test rows, optimistic" in setting_of(point, on_validation=False, label="Edema")


def test_a_threshold_of_several_fits_is_their_mean_with_its_spread() -> None:
    score = unresampled("threshold", [0.2, 0.5], np.array([7, 7, 8, 7, 7, 8]), setting="s")
    assert score.replicates == pytest.approx([0.35])
    assert (score.n, score.patients, score.seeds) == (3, 2, 2)
    assert score.spread == pytest.approx(np.std([0.2, 0.5], ddof=1))
