"""The dump of answers: what is written is what is read, and numbers by hand."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.tasks.vqa.predictions import KEPT, VqaPredictions, best_answers

# Four questions of three patients, two fits; the last question's answer is not among the three, and that of
# the second was not allowed for it.
DUMP = VqaPredictions(
    table="test",
    answers=3,
    vocabulary=None,
    note="",
    seeds=np.array([0, 0, 0, 0, 1, 1, 1, 1]),
    answer_types=("open", "closed", "open", "open") * 2,
    question_types=("plane", "plane", "organ", "") * 2,
    truth=np.array([0, 1, 2, -1] * 2),
    answerable=np.array([True, False, True, False] * 2),
    right=np.array([1, 0, 1, 0, 1, 1, 0, 0.0]),
    best=np.array([[0, 1], [2, 1], [2, 0], [1, 0], [0, 2], [1, 0], [1, 2], [0, 1]]),
    scores=np.array([[0.7, 0.2], [0.5, 0.4]] * 4),
    answer_tables=("train", "", "train", "val") * 2,
    answer_rows=np.array([4, 0, 9, 2] * 2),
    rows=np.array([11, 12, 13, 14] * 2),
    samples=("a", "b", "c", "d") * 2,
    patients=np.array([5, 5, 6, 8] * 2),
    modalities=("ct", "", "ct", "mri") * 2,
)


def _scores(dump: VqaPredictions) -> dict[tuple[str, str, str], Score]:
    found = dump.metrics(Resampler(BootstrapConfig(resamples=50)))
    return {(each.metric, each.setting, each.modality): each for each in found}


def test_round_trip(tmp_path: Path) -> None:
    for dump in (DUMP, replace(DUMP, vocabulary=("ct", "no", "yes"), note="seen so")):
        write_predictions(dump, tmp_path / "a.parquet", fingerprint="f")
        found = read_predictions(tmp_path / "a.parquet", fingerprint="f")
        assert isinstance(found, VqaPredictions)
        for field in fields(dump):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(dump, field.name))


def test_others_can_read_it(tmp_path: Path) -> None:
    write_predictions(DUMP, tmp_path / "a.parquet", fingerprint="f")
    row = pq.read_table(tmp_path / "a.parquet").to_pylist()[1]
    assert (row["truth"], row["chosen"], row["right"], row["answer_type"]) == (1, 2, 0, "closed")
    assert (row["best"], row["scores"]) == ([2, 1], [0.5, 0.4])


def test_accuracies_by_hand() -> None:
    found = _scores(DUMP)
    estimates = {key: (score.replicates[0], score.n, score.patients) for key, score in found.items()}
    assert estimates == {
        ("accuracy", "", ""): (0.5, 4, 3),
        ("accuracy_open", "", ""): (0.5, 3, 3),
        ("accuracy_closed", "", ""): (0.5, 1, 1),
        ("accuracy_answerable", "", ""): (0.75, 2, 2),
        ("macro_accuracy", "", ""): (pytest.approx((0.75 + 0.5) / 2), 3, 2),
        ("accuracy", "question type: plane", ""): (0.75, 2, 1),
        ("accuracy", "question type: organ", ""): (0.5, 1, 1),
        ("accuracy", "", "ct"): (0.75, 2, 2),
        ("accuracy", "", "mri"): (0, 1, 1),
    }
    assert [key for key, score in found.items() if score.main] == [("accuracy", "", "")]
    assert found["accuracy", "", ""].seeds == 2
    assert found["accuracy", "", ""].spread == 0
    assert found["accuracy_open", "", ""].spread == pytest.approx(np.std([2 / 3, 1 / 3], ddof=1))
    macro = found["macro_accuracy", "", ""]
    assert (macro.seeds, macro.spread) == (2, pytest.approx(np.std([0.75, 0.5], ddof=1)))


def test_a_resample_weighs_patients() -> None:
    """Rows 1 and 2 are of one patient: they come and go together."""
    resampler = Resampler(BootstrapConfig(resamples=50))
    weights = resampler.weights(np.array([5, 6, 8])).astype(float)
    right = np.array([1, 0.5, 0.5, 0])
    of_rows = weights[:, [0, 0, 1, 2]]
    with np.errstate(invalid="ignore"):
        oracle = (of_rows * right).sum(axis=1) / of_rows.sum(axis=1)
    np.testing.assert_allclose(_scores(DUMP)["accuracy", "", ""].replicates, oracle)


def test_no_closed_question_is_undefined_and_no_type_is_no_row() -> None:
    found = _scores(replace(DUMP, answer_types=("open",) * 8, question_types=("",) * 8))
    assert np.isnan(found["accuracy_closed", "", ""].replicates).all()
    assert not any(metric == "macro_accuracy" or setting for metric, setting, _ in found)


def test_examples_are_right_and_wrong_ones_in_turn() -> None:
    found = DUMP.exhibits("student", "asked")
    assert [each.right for each in found] == [True, False, True, False]
    assert {each.row for each in found} == {11, 12, 13, 14}
    by_row = {each.row: each for each in found}
    assert (by_row[11].answer_table, by_row[11].answer_row) == ("train", 4)
    assert (by_row[12].answer_table, by_row[12].answer_row) == ("", None)
    assert by_row[14].right is False, "an answer outside the vocabulary is never right"
    assert DUMP.exhibits("other", "asked")[0].row == found[0].row


def test_probabilities_again() -> None:
    np.testing.assert_allclose(
        DUMP.probabilities(0), [[0.7, 0.2, 0], [0, 0.4, 0.5], [0.2, 0, 0.7], [0.4, 0.5, 0]]
    )


def test_the_best_answers_are_kept() -> None:
    scores = np.random.default_rng(0).random((5, KEPT + 20))
    best, kept, right = best_answers(scores, scores.argmax(axis=1))
    assert best.shape == kept.shape == (5, KEPT)
    assert (np.diff(kept, axis=1) <= 0).all()
    assert right.tolist() == [1] * 5
