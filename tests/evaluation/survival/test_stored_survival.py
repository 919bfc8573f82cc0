"""Stored features of slides, copies under two patients, groups of patients, and the main number alone."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from colour_world import ColourModel
from survival_world import suite, write_patients

from meddistill.errors import TableError, UserError
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.survival import predictions as survival_predictions
from meddistill.evaluation.tasks.survival.predictions import SurvivalPredictions
from meddistill.evaluation.tasks.survival.slides import mean_features
from meddistill.evaluation.tasks.survival.task import RANDOM_FEATURES, WITH_CLINICAL, Survival
from meddistill.progress import SilentProgress


def _with_column(path: Path, name: str, cells: list[str]) -> None:
    lines = path.read_text().splitlines()
    body = [f"{line},{cell}" for line, cell in zip(lines[1:], cells, strict=True)]
    path.write_text("\n".join([f"{lines[0]},{name}", *body]) + "\n")


def _write_tiles(path: Path, features: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file["features"] = features.astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 patients of two slides, a picture each, and features of tiles that know the time."""
    folder = write_patients(tmp_path_factory.mktemp("slides"))
    slides = [f"slide{number}" for number in range(80)]
    _with_column(folder / "slices.csv", "slide", slides)
    random = np.random.default_rng(0)
    times = [float(line.split(",")[1]) for line in (folder / "patients.csv").read_text().splitlines()[1:]]
    for number, slide in enumerate(slides):
        tiles = random.normal(scale=0.3, size=(3 + number % 4, 5))
        _write_tiles(folder / "uni" / f"{slide}.h5", tiles - np.log(times[number // 2]))
    return folder


def _task(world: Path, **changes: Any) -> Survival:
    config = suite(**changes)
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    task = build_task(config.tasks[0], parts, SampleNames(None, examples=True))
    assert isinstance(task, Survival)
    return task


def _evaluate(world: Path, folder: Path, config: SuiteConfig) -> Results:
    return evaluate([ColourModel()], config, base=world, folder=folder, progress=SilentProgress())


STORED = {"stored": {"uni": "uni"}, "slide": "slide"}


def test_stored_features_are_judged_beside_the_models(world: Path, tmp_path: Path) -> None:
    found = _evaluate(world, tmp_path, suite(**STORED))
    assert found.main("uni", "death").value > 0.9
    assert {row.setting for row in found.of(model="uni", task="death")} == {"", WITH_CLINICAL}
    dumps = tmp_path / "predictions" / "death"
    mine, theirs = (read_predictions(next(dumps.glob(f"{name}*.parquet"))) for name in ("student", "uni"))
    assert isinstance(mine, SurvivalPredictions)
    assert isinstance(theirs, SurvivalPredictions)
    for column in ("patients", "rows", "folds", "seeds", "censoring"):
        np.testing.assert_array_equal(getattr(mine, column), getattr(theirs, column))
    assert any(
        "models see one picture where the stored features (uni) hold all tiles" in line
        for line in found.warnings
    )


def test_slides_are_means_of_tiles_and_patients_means_of_slides(world: Path, tmp_path: Path) -> None:
    task = _task(world, **STORED)
    files = []
    for number in range(80):
        tiles = np.full((1 + 9 * (number % 2), 2), [number, -number])
        _write_tiles(tmp_path / f"{number}.h5", tiles)
        files.append(tmp_path / f"{number}.h5")
    found = mean_features("x", files, task.slides, 40)
    np.testing.assert_allclose(found[:, 0], [2 * patient + 0.5 for patient in range(40)])
    _write_tiles(files[3], np.zeros((2, 7)))
    with pytest.raises(UserError, match="of one model; got widths 2 and 7"):
        mean_features("x", files, task.slides, 40)


def test_several_pictures_of_a_slide_count_it_once(tmp_path: Path) -> None:
    folder = write_patients(tmp_path, patients=6)
    _with_column(folder / "slices.csv", "slide", [f"s{number // 2}" for number in range(12)])
    for number in range(6):
        _write_tiles(folder / "uni" / f"s{number}.h5", np.full((2, 1), number))
    task = _task(folder, **STORED, folds=2, inner_folds=2)
    task.check()
    assert (task.slides.names, task.slides.rows) == (tuple(f"s{n}" for n in range(6)), (1, 3, 5, 7, 9, 11))
    assert not any("models see one picture" in line for line in task.facts()["warnings"])
    by_patient = _task(folder, stored={"uni": "uni"})
    with pytest.raises(TableError, match=r"an \.h5 file for every slide.*rows 1, 3, 5, 7, 9 and 1 more"):
        by_patient.check()
    before = task.digest(), task.of_baseline("uni"), task.of_baseline("random features")
    _write_tiles(folder / "uni" / "s0.h5", np.zeros((9, 1)))
    assert task.of_baseline("uni") != before[1]
    assert (task.digest(), task.of_baseline("random features")) == (before[0], before[2])
    (folder / "uni" / "s2.h5").unlink()
    with pytest.raises(TableError, match=r"`stored.uni` must be a folder .* that begin in row 5"):
        task.check()


def test_a_slide_of_two_patients_is_refused(tmp_path: Path) -> None:
    folder = write_patients(tmp_path, patients=4, images=1)
    _with_column(folder / "slices.csv", "slide", ["s0", "s1", "s0", "s3"])
    with pytest.raises(TableError, match=r"`slide` must have rows of one patient .* rows 1, 3") as caught:
        _task(folder, **STORED).check()
    assert "s0" not in str(caught.value)
    with pytest.raises(ValueError, match="`slide` names files of `stored`"):
        suite(slide="slide")


def test_one_image_of_two_patients_is_refused(tmp_path: Path) -> None:
    folder = write_patients(tmp_path, patients=6)
    (folder / "p4_1.png").write_bytes((folder / "p1_0.png").read_bytes())
    (folder / "p0_1.png").write_bytes((folder / "p0_0.png").read_bytes())  # one patient's own copy is no leak
    with pytest.raises(
        TableError, match=r"must not share images; 1 image is of several \(rows 3, 10\)"
    ) as at:
        _task(folder).check()
    assert "name-of" not in str(at.value)


def test_a_patient_whose_rows_disagree_is_of_no_group(tmp_path: Path) -> None:
    """Rows that state nothing contradict no others."""
    folder = write_patients(tmp_path, patients=9)
    wards = ["a", "a", "a", "b", "", "b", "", "", *["a", "b"] * 5]
    _with_column(folder / "slices.csv", "ward", wards)
    task = _task(folder, groups={"ward": {}}, repeats=1, clinical=[])
    found = task.grouped(task.baselines()[RANDOM_FEATURES])
    assert found.groups["ward"] == ("a", "", "b", "", *[""] * 5)


def test_random_features_are_drawn_anew_for_every_division(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(world, repeats=3, clinical=[])
    drawn = []
    monkeypatch.setattr(task, "_images", lambda features: drawn.append(features) or (lambda *_: features))
    monkeypatch.setattr(task, "_cross_validate", lambda blocks: blocks)
    assert len(task.baselines()[RANDOM_FEATURES][""]) == 3
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])
    task._random(0)
    np.testing.assert_array_equal(drawn[0], drawn[3])


def test_the_main_number_alone_is_that_of_all_metrics(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task(world, clinical=[])
    found = task.baselines()[RANDOM_FEATURES]
    resampler = Resampler(suite().bootstrap)
    whole = next(score for score in found.metrics(resampler) if score.main)
    monkeypatch.setattr(survival_predictions, "survival_metrics", None)  # nothing else is computed
    alone = found.main_score(resampler)
    assert alone is not None
    assert (alone.metric, alone.n, alone.patients, alone.seeds, alone.spread, alone.main) == (
        whole.metric, whole.n, whole.patients, whole.seeds, whole.spread, True
    )  # fmt: skip
    np.testing.assert_array_equal(alone.replicates, whole.replicates)
    assert found.take(found.rows < 0).main_score(resampler) is None
