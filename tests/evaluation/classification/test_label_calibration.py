"""Calibration of several labels: against torchmetrics and scikit-learn, temperatures, and what is told."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, roc_auc_score
from torchmetrics.classification import BinaryCalibrationError

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.tasks.classification.calibration import BINS
from meddistill.evaluation.tasks.classification.label_calibration import (
    apply_temperature,
    label_calibration,
    label_temperatures,
)
from meddistill.evaluation.tasks.classification.label_metrics import label_auc, label_metrics
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.score_predictions import VALIDATION

LABELS = ("a", "b", "c")
TEMPERED = "temperature on validation"
RESAMPLER = Resampler(BootstrapConfig(resamples=20))


def _drawn(n: int = 600, *, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from sigmoid(z), scores sigmoid(sharpness x z); a fifth of the cells is not known."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(n, 3)) * 1.5
    truth = (random.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    truth[random.random((n, 3)) < 0.2] = -1
    return truth, 1 / (1 + np.exp(-sharpness * logits))


def test_equal_to_the_libraries_on_the_known_rows_under_every_weighting() -> None:
    """Three rows a patient."""
    truth, scores = _drawn()
    groups = np.arange(len(truth)) // 3
    weights = np.random.default_rng(1).poisson(1, size=(4, 200)).astype(np.float32)
    found = label_calibration(truth, scores, weights, groups)
    oracle = BinaryCalibrationError(n_bins=BINS, norm="l1")
    for column in range(3):
        known = np.flatnonzero(truth[:, column] >= 0)
        for row, weight in enumerate(weights[:, groups]):
            copies = np.repeat(known, weight[known].astype(int))
            p, y = scores[copies, column], truth[copies, column]
            ece = oracle(torch.from_numpy(p), torch.from_numpy(y))
            assert found["ece"][column, row] == pytest.approx(float(ece), abs=1e-6)
            assert found["brier"][column, row] == pytest.approx(brier_score_loss(y, p))


def test_by_hand_and_without_a_known_row() -> None:
    """Label a: 0.9 there, 0.9 not, in one bin; label b is nowhere known. The second resample is empty."""
    truth, scores = np.array([[1, -1], [0, -1]]), np.array([[0.9, 0.5], [0.9, 0.5]])
    weights = np.array([[1, 1], [0, 0]], dtype=np.float32)
    found = label_calibration(truth, scores, weights, np.arange(2))
    assert found["ece"][0, 0] == pytest.approx(0.4)
    assert found["brier"][0, 0] == pytest.approx((0.01 + 0.81) / 2)
    assert np.isnan(found["ece"][:, 1]).all()
    assert np.isnan(found["brier"][1]).all()


def test_temperatures_undo_what_was_overdone_label_by_label() -> None:
    truth, scores = _drawn(4000, sharpness=3.0)
    found = label_temperatures(truth, scores)
    assert [each.temperature for each in found] == pytest.approx([3.0] * 3, rel=0.15)
    assert {each.why for each in found} == {""}
    after = apply_temperature(scores, found)
    z = np.log(scores / (1 - scores)) / np.array([each.temperature for each in found])
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-z)), atol=1e-12)
    for column in range(3):
        known = truth[:, column] >= 0
        areas = [roc_auc_score(truth[known, column], each[known, column]) for each in (scores, after)]
        assert areas[0] == pytest.approx(areas[1], abs=1e-9)


def test_labels_of_one_value_or_of_none_have_no_temperature() -> None:
    truth = np.array([[1, 0, -1], [1, 0, -1]])
    scores = np.array([[0.9, 0.2, 0.5], [0.8, 0.4, 0.5]])
    found = label_temperatures(truth, scores)
    assert "ran to its bound 0.01" in found[0].why
    assert "ran to its bound 0.01" in found[1].why
    assert found[2].why == "no validation row where it is known"


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_alone_is_that_beside_precision(ties: bool) -> None:
    truth, scores = _drawn(200)
    truth[:, 2] = 1
    scores = np.round(scores, 1) if ties else scores
    weights = np.random.default_rng(2).poisson(0.02, size=(30, 200)).astype(np.float32)
    weights[0] = 1
    alone, beside = (
        label_auc(truth, scores, weights, np.arange(200)),
        label_metrics(truth, scores, weights, np.arange(200))["auc"],
    )
    np.testing.assert_allclose(alone, beside, atol=1e-9)
    assert np.isnan(alone[2]).all()


def _predictions(**changes: Any) -> LabelPredictions:
    """Three hundred tested rows under two seeds, and as many of validation."""
    truth, scores = _drawn(300, sharpness=2.0)
    blocks = [("", 0), ("", 1), (VALIDATION, 0), (VALIDATION, 1)]
    rows = np.arange(1, 301)
    others = [(scores**power) for power in (1.0, 1.4, 1.0, 1.4)]
    known: dict[str, Any] = {
        "labels": LABELS,
        "truth": np.concatenate([truth] * 4),
        "scores": np.concatenate(others),
        "settings": tuple(setting for setting, _ in blocks for _ in rows),
        "seeds": np.repeat([seed for _, seed in blocks], 300),
        "rows": np.concatenate([rows, rows, -rows, -rows]),
        "samples": tuple(str(row) for _ in blocks for row in rows),
        "patients": np.tile(np.arange(300) // 2, 4),
        "modalities": ("ct", "") * 600,
        "probabilities": True,
    }
    return LabelPredictions(**(known | changes))


def _scores(dump: LabelPredictions) -> dict[tuple[str, str], Score]:
    return {(each.metric, each.setting): each for each in dump.metrics(RESAMPLER) if not each.modality}


def test_calibration_of_every_label_and_the_mean_before_and_after() -> None:
    found = _scores(_predictions())
    for metric in ("ece", "brier"):
        for before, after in (("", TEMPERED), ("label b", f"label b, {TEMPERED}")):
            assert found[metric, after].replicates[0] < found[metric, before].replicates[0]
            assert (found[metric, before].seeds, found[metric, after].seeds) == (2, 2)
        for suffix, whole in (("", ""), (f", {TEMPERED}", TEMPERED)):
            parts = [found[metric, f"label {label}{suffix}"].replicates for label in LABELS]
            np.testing.assert_allclose(found[metric, whole].replicates, np.mean(parts, axis=0))
    fitted = found["temperature", f"label a, {TEMPERED}"]
    assert len(fitted.replicates) == 1
    assert fitted.replicates[0] > 1.5
    assert not any(each.note for each in found.values())
    assert ("auc", TEMPERED) not in found


def test_a_label_without_a_temperature_is_named_and_left_out_of_the_mean() -> None:
    whole = _predictions()
    truth = whole.truth.copy()
    truth[600:, 1] = 1
    dump = _predictions(truth=truth, scores=np.where(truth == 1, np.maximum(whole.scores, 0.6), whole.scores))
    found = _scores(dump)
    undefined = found["brier", f"label b, {TEMPERED}"]
    assert np.isnan(undefined.replicates[0])
    assert undefined.note.startswith("not defined: the temperature")
    assert found["brier", TEMPERED].note == "without b"
    parts = [found["brier", f"label {label}, {TEMPERED}"].replicates[0] for label in "ac"]
    assert found["brier", TEMPERED].replicates[0] == pytest.approx(np.mean(parts))
    assert dump.warnings()[0].startswith("not calibrated: b (the temperature fitted on validation ran to")


def test_no_label_has_a_temperature() -> None:
    truth = _predictions().truth.copy()
    truth[600:] = -1
    found = _scores(_predictions(truth=truth))
    assert np.isnan(found["ece", TEMPERED].replicates[0])
    assert found["ece", TEMPERED].note == "not defined: no label has a temperature"
    assert np.isfinite(found["ece", ""].replicates[0])


def test_scores_that_are_no_probabilities_are_not_calibrated() -> None:
    metrics = {metric for metric, _ in _scores(_predictions(probabilities=False))}
    assert metrics == {"auc", "average_precision", "mean_average_precision"}
    assert _predictions(probabilities=False).warnings() == ()


def test_the_main_metric_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = _predictions()
    wanted = next(each for each in dump.metrics(RESAMPLER) if each.main)

    def never(*_: Any) -> None:
        msg = "only the main metric is asked for"
        raise AssertionError(msg)

    for name in ("label_metrics", "label_calibration", "label_temperatures"):
        monkeypatch.setattr(f"meddistill.evaluation.tasks.classification.label_predictions.{name}", never)
    found = dump.main_score(RESAMPLER)
    assert found is not None
    np.testing.assert_allclose(found.replicates, wanted.replicates, atol=1e-9)
    assert (found.metric, found.n, found.patients, found.seeds, found.main) == ("auc", 300, 150, 2, True)
    assert found.spread == pytest.approx(wanted.spread)
    assert dump.take(dump.rows < 0).main_score(RESAMPLER) is None


def test_the_dump_comes_back_with_seeds() -> None:
    whole = _predictions()
    again = LabelPredictions.from_table(whole.to_table(), whole.facts())
    np.testing.assert_array_equal(again.seeds, whole.seeds)
    assert again.probabilities
    for key, score in _scores(whole).items():
        np.testing.assert_array_equal(score.replicates, _scores(again)[key].replicates)
