"""The dump of outlines, and what follows from it."""

import base64
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.tasks.segmentation.predictions import MaskPredictions, mask_png

NAN = float("nan")


def _predictions(**more: Any) -> MaskPredictions:
    """Four images of three patients under two seeds; the last image lacks the structure."""
    known: dict[str, Any] = {
        "table": "test",
        "names": ("dice", "hd95_px"),
        "values": np.array(
            [[0.9, 1], [0.5, 4], [0.1, 9], [1, 0], [0.7, 2], [0.5, 4], [0, 20], [0, 20]], dtype=np.float64
        ),
        "truth_pixels": np.array([10, 10, 10, 0] * 2),
        "given_pixels": np.array([9, 12, 3, 0, 8, 8, 0, 5]),
        "seeds": np.repeat([0, 1], 4),
        "rows": np.array([3, 5, 8, 9] * 2),
        "samples": ("a", "b", "c", "d") * 2,
        "patients": np.array([7, 7, 2, 4] * 2),
        "modalities": ("ct", "ct", "mri", "") * 2,
    }
    return MaskPredictions(**(known | more))


def _scores(predictions: MaskPredictions, resamples: int = 200) -> dict[tuple[str, str], Any]:
    resampler = Resampler(BootstrapConfig(resamples=resamples))
    return {(score.metric, score.modality): score for score in predictions.metrics(resampler)}


def test_means_over_images_and_seeds() -> None:
    found = _scores(_predictions())
    dice = found["dice", ""]
    assert dice.replicates[0] == pytest.approx((2.5 / 4 + 1.2 / 4) / 2)
    assert (dice.n, dice.patients, dice.seeds, dice.main) == (4, 3, 2, True)
    assert dice.spread == pytest.approx(np.std([2.5 / 4, 1.2 / 4], ddof=1))
    assert found["hd95_px", ""].replicates[0] == pytest.approx((14 / 4 + 46 / 4) / 2)
    assert found["missed", ""].replicates[0] == pytest.approx((0 + 1 / 3) / 2)
    assert found["invented", ""].replicates[0] == pytest.approx((0 + 1) / 2)
    assert (found["invented", ""].n, found["missed", ""].n) == (1, 3)
    assert set(found) == {(name, "") for name in ("dice", "hd95_px", "missed", "invented")} | {
        ("dice", "ct"),
        ("dice", "mri"),
    }
    assert found["dice", "ct"].replicates[0] == pytest.approx(0.65)
    assert not found["dice", "ct"].main


def test_resamples_weigh_patients() -> None:
    resampler = Resampler(BootstrapConfig(resamples=50))
    weights = resampler.weights(np.array([2, 4, 7]))
    dice = next(score for score in _predictions().metrics(resampler) if score.metric == "dice")
    for weight, value in zip(weights, dice.replicates, strict=True):
        total = weight[0] + weight[1] + 2 * weight[2]
        if total:
            first = (weight[2] * 1.4 + weight[0] * 0.1 + weight[1] * 1) / total
            second = (weight[2] * 1.2) / total
            assert value == pytest.approx((first + second) / 2)
        else:
            assert np.isnan(value)


def test_images_left_out_count_nowhere() -> None:
    values = _predictions().values.copy()
    values[[3, 7]] = NAN
    found = _scores(_predictions(values=values))
    assert (found["dice", ""].n, found["dice", ""].patients) == (3, 2)
    assert found["dice", ""].replicates[0] == pytest.approx((1.5 / 3 + 1.2 / 3) / 2)
    assert found["invented", ""].n == 1
    nothing = _scores(_predictions(values=np.full((8, 2), NAN)))
    assert nothing["dice", ""].n == 0
    assert np.isnan(nothing["dice", ""].replicates).all()


def test_one_patient_and_one_image() -> None:
    whole = _predictions()
    one = {name: getattr(whole, name)[:1] for name in ("truth_pixels", "given_pixels", "seeds", "rows")}
    dump = _predictions(
        **one, values=whole.values[:1], samples=("a",), patients=np.array([7]), modalities=("ct",)
    )
    found = _scores(dump)
    assert found["dice", ""].replicates[0] == pytest.approx(0.9)
    assert found["dice", ""].spread is None
    assert np.isnan(found["invented", ""].replicates).all()
    assert [each.place for each in dump.exhibits("m", "t")] == ["best"]


def test_the_dump_holds_everything(tmp_path: Path) -> None:
    mask = np.arange(35).reshape(5, 7) % 3 == 0
    masks = (mask_png(mask),) * 4 + (b"",) * 4
    for dump in (_predictions(), _predictions(truths=masks, givens=masks[::-1])):
        write_predictions(dump, tmp_path / "m.parquet", fingerprint="f")
        again = read_predictions(tmp_path / "m.parquet", fingerprint="f")
        assert isinstance(again, MaskPredictions)
        for name, value in vars(dump).items():
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
        assert again.exhibits("m", "t") == dump.exhibits("m", "t")


def test_masks_come_back_to_the_pixel() -> None:
    mask = np.random.default_rng(0).random((37, 50)) < 0.3
    with Image.open(io.BytesIO(mask_png(mask))) as image:
        assert image.mode == "1"
        np.testing.assert_array_equal(np.asarray(image), mask)


def test_exhibits_are_the_best_the_median_and_the_worst_with_the_structure() -> None:
    found = {each.place: each for each in _predictions().exhibits("m", "t")}
    assert {place: (each.row, each.dice) for place, each in found.items()} == {
        "best": (3, 0.9),
        "median": (5, 0.5),
        "worst": (8, 0.1),
    }
    assert {each.truth + each.given for each in found.values()} == {""}
    masks = (b"one", b"two", b"three", b"four") + (b"",) * 4
    shown = _predictions(truths=masks, givens=masks).exhibits("m", "t")
    assert [base64.b64decode(each.given) for each in shown] == [b"one", b"two", b"three"]
    unmarked = replace(_predictions(), given_pixels=np.zeros(8, dtype=np.int64))
    assert all(each.empty for each in unmarked.exhibits("m", "t"))
    marked = replace(_predictions(), given_pixels=np.ones(8, dtype=np.int64))
    assert not any(each.empty for each in marked.exhibits("m", "t"))
    nothing = replace(_predictions(), truth_pixels=np.zeros(8, dtype=np.int64))
    assert nothing.exhibits("m", "t") == ()


def test_ties_are_broken_by_the_row() -> None:
    values = _predictions().values.copy()
    values[:, 0] = 0.5
    rows = [each.row for each in _predictions(values=values).exhibits("m", "t")]
    assert sorted(rows) == [3, 5, 8]


def test_a_thousand_resamples_of_five_thousand_images_are_quick() -> None:
    n = 5000
    dump = MaskPredictions(
        table="test",
        names=("dice", "iou", "hd95_px", "nsd_2px"),
        values=np.random.default_rng(0).random((n, 4)),
        truth_pixels=np.arange(n) % 7,
        given_pixels=np.arange(n) % 5,
        seeds=np.zeros(n, dtype=np.int64),
        rows=np.arange(1, n + 1),
        samples=("",) * n,
        patients=np.arange(n) // 2,
        modalities=("",) * n,
    )
    resampler = Resampler(BootstrapConfig(resamples=1000))
    resampler.weights(np.unique(dump.patients))  # drawn once for all models
    start = time.process_time()
    dump.metrics(resampler)
    assert time.process_time() - start < 5


def test_dice_alone_is_that_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    resampler = Resampler(BootstrapConfig(resamples=20))
    wanted = next(each for each in _predictions().metrics(resampler) if each.main)
    monkeypatch.setattr(MaskPredictions, "metrics", lambda *_: pytest.fail("all metrics are computed"))
    found = _predictions().main_score(resampler)
    assert found is not None
    np.testing.assert_array_equal(found.replicates, wanted.replicates)
    assert (found.metric, found.n, found.spread, found.main) == ("dice", wanted.n, wanted.spread, True)
