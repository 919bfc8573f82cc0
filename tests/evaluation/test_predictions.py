"""Dumps: what is written is what is read, ids stay out of it, damage is named."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from meddistill.errors import UserError
from meddistill.evaluation.base.predictions import Predictions, SampleNames
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.tasks.classification.metrics import class_metrics
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions

CLASSES = ClassPredictions(
    classes=("no finding", 'a "quoted", label', "never"),
    truth=np.array([1, 0, 1, 0]),
    scores=np.random.default_rng(0).random((4, 3)),
    rows=np.array([7, 9, 7, 9]),
    samples=("a", "b", "a", "b"),
    patients=np.array([0, 3, 0, 3]),
    modalities=("ct", "", "ct", ""),
    settings=("", "", "10 %", "10 %"),
    seeds=np.array([0, 0, 4, 4]),
)
RANKS = RankPredictions(
    images=2,
    texts=1,
    directions=np.array([0, 0, 1, 1]),
    ranks=np.array([1.0, 1.5, 2.0, 2.0]),
    shares=np.array([1, 1, 0.5, 0.5]),
    positives=np.array([1, 1, 2, 2]),
    rows=np.array([1, 2, 1, 1]),
    samples=("a", "b", "a", "a"),
    patients=np.array([0, 1, 0, 1]),
    modalities=("ct", "mri", "ct", "mri"),
)


@pytest.mark.parametrize("predictions", [CLASSES, RANKS], ids=["classes", "ranks"])
def test_round_trip(tmp_path: Path, predictions: Predictions) -> None:
    path = tmp_path / "task" / "model.parquet"
    write_predictions(predictions, path, fingerprint="f")
    found = read_predictions(path, fingerprint="f")
    assert type(found) is type(predictions)
    for field in fields(predictions):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(predictions, field.name))
    assert read_predictions(path, fingerprint="other") is None
    assert read_predictions(tmp_path / "absent.parquet") is None
    assert list(path.parent.iterdir()) == [path]


def test_the_dump_is_readable_by_others(tmp_path: Path) -> None:
    write_predictions(CLASSES, tmp_path / "a.parquet", fingerprint="f")
    row = pq.read_table(tmp_path / "a.parquet").to_pylist()[0]
    assert row["truth"] == 'a "quoted", label'
    assert row["patient"] == 0
    np.testing.assert_allclose(row["scores"], CLASSES.scores[0])


@pytest.mark.parametrize("cut", [0, 5, 300])
def test_damage_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.parquet"
    write_predictions(CLASSES, path, fingerprint="f")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.parquet` must be predictions"):
        read_predictions(path)


def test_ids_are_hashed_under_a_key_of_the_folder(tmp_path: Path) -> None:
    ids = ("Doe, Jane", "Doe, John")
    names = SampleNames(tmp_path / "one", examples=False)
    assert names(ids) == SampleNames(tmp_path / "one", examples=False)(ids)
    assert names(ids) != SampleNames(tmp_path / "two", examples=False)(ids)
    assert not set(names(ids)) & set(ids)
    assert len(set(names(ids))) == 2
    (tmp_path / "three").mkdir()
    assert not set(SampleNames(tmp_path / "three", examples=True)(ids)) & set(ids)  # pictures, yet no ids
    assert not set(SampleNames(None, examples=True)(ids)) & set(ids)


def test_sure_probabilities_stay_apart(tmp_path: Path) -> None:
    """1 - 1e-9 and 1 - 2e-9 are one number in float32, and would be a tie in the area under the curve."""
    rest = np.array([1e-9, 2e-9, 3e-9, 4e-9])
    sure = replace(
        CLASSES, classes=("yes", "no"), truth=np.array([0, 0, 1, 1]), scores=np.stack([1 - rest, rest], 1)
    )
    write_predictions(sure, tmp_path / "a.parquet", fingerprint="f")
    found = read_predictions(tmp_path / "a.parquet")
    assert isinstance(found, ClassPredictions)
    weights = np.ones((1, 4), dtype=np.float32)
    assert class_metrics(found.truth, found.scores, weights, np.arange(4))["auc"][0] == 1
