"""The segmentation probe from images with label maps to results."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disc_world import PatchModel, suite, task, write_discs
from PIL import Image

from meddistill.data.samples import Samples
from meddistill.errors import NonFiniteError, UserError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models import cache as embeddings_module
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Tokens
from meddistill.evaluation.tasks.segmentation.metrics import mask_metrics
from meddistill.evaluation.tasks.segmentation.predictions import MaskPredictions
from meddistill.evaluation.tasks.segmentation.task import ALL_BACKGROUND, MEAN_MASK, SegmentationProbe
from meddistill.imaging import Geometry
from meddistill.progress import SilentProgress
from recording_progress import RecordingProgress

BOX = Image.Resampling.BOX
METRICS = ("dice", "iou", "hd95_px", "nsd_2px", "missed", "invented")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


def _models() -> list[PatchModel]:
    return [
        PatchModel(),
        PatchModel("sharp", "teacher", patches=12),
        PatchModel("blurred", "teacher", noise=2.0),
        PatchModel("whole images only", "teacher", gives=False),
    ]


def _evaluate(discs: Path, folder: Path, *models: PatchModel, **more: Any) -> Results:
    config = more.pop("suite", None) or suite(task(), task(name="light", decoder="light", seeds=1))
    chosen = list(models) or _models()
    return evaluate(chosen, config, base=discs, folder=folder, progress=SilentProgress(), **more)


def _build(discs: Path, **more: Any) -> SegmentationProbe:
    config = suite(task(**more))
    parts = SuiteTables(config, base=discs).parts(config.tasks[0])
    built = build_task(config.tasks[0], parts, SampleNames(None, examples=True))
    assert isinstance(built, SegmentationProbe)
    return built


def _dump(path: Path) -> MaskPredictions:
    dump = read_predictions(path)
    assert isinstance(dump, MaskPredictions)
    return dump


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def results(discs: Path, folder: Path) -> Results:
    return _evaluate(discs, folder)


def test_every_metric_has_its_interval(results: Results) -> None:
    for model in ("student", "sharp", "blurred", TEACHER_MEAN):
        rows = {row.metric: row for row in results.of(model=model, task="discs") if not row.modality}
        assert tuple(rows) == METRICS
        for name in METRICS[:4]:
            assert rows[name].low <= rows[name].value <= rows[name].high
            assert (rows[name].n, rows[name].patients, rows[name].seeds) == (10, 5, 2)
        assert [name for name, row in rows.items() if row.main] == ["dice"]
        assert (rows["missed"].n, rows["invented"].n) == (8, 2)
        modal = {row.modality for row in results.of(model=model, task="discs")}
        assert modal == {"", "ct", "mri"}


def test_better_tokens_outline_better(results: Results) -> None:
    assert results.main("student", "discs").value > 0.9
    assert results.main("sharp", "discs").value > results.main("student", "discs").value
    assert results.main("blurred", "discs").value < 0.6
    assert results.main("sharp", "light").value > 0.95
    distance = {
        row.model: row.value
        for row in results.of(task="discs")
        if row.metric == "hd95_px" and not row.modality
    }
    assert distance["sharp"] < 2 < distance["blurred"]


def test_a_model_without_tokens_says_so(results: Results) -> None:
    for name in ("discs", "light", MEAN_TASK):
        row = results.main("whole images only", name)
        assert row is not None
        assert (row.value, row.note) == (None, "not applicable: the model has no patch tokens")
    assert results.difference("student", "whole images only", "discs") is None


def test_facts_say_by_which_rules(results: Results) -> None:
    facts = {each.name: each.facts for each in results.tasks}["light"]
    assert facts["decoder"] == "light"
    assert facts["foreground"] == [2]
    assert (facts["train_n"], facts["train_patients"], facts["without_structure"]) == (20, 10, 2)
    assert (facts["empty"], facts["unit"]) == ("score", "px")
    assert facts["surfaces"].startswith("monai 1.")
    assert any("fewer than 5 test patients with the structure" in each for each in results.warnings)


def test_no_tested_image_with_the_structure_is_told(discs: Path) -> None:
    built = _build(discs)
    masks = built.masks["test"]
    none = replace(masks, pixels=(0,) * len(masks))
    built.__dict__["masks"] = {**built.masks, "test": none}
    assert built.facts()["warnings"] == [
        "no tested image has the structure: how well it is found is not measured"
    ]


def test_the_dump_s_numbers_are_those_of_the_masks(discs: Path, tmp_path: Path) -> None:
    _evaluate(discs, tmp_path, PatchModel(), suite=suite(task()), examples=True)
    dump = _dump(tmp_path / "predictions" / "discs" / "student.parquet")
    shown = dump.exhibits("student", "discs")
    assert len(shown) == 3
    for each in shown:
        truth, given = (
            np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in (each.truth, each.given)
        )
        place = int(np.flatnonzero((dump.rows == each.row) & (dump.seeds == 0))[0])
        assert mask_metrics(truth, given, tolerance=2, spacing=None) == pytest.approx(dump.values[place])
        assert (truth.sum(), given.sum()) == (dump.truth_pixels[place], dump.given_pixels[place])


def test_nothing_that_was_written_names_a_patient_or_shows_a_mask(folder: Path, results: Results) -> None:
    assert all(not each.truth and not each.given for each in results.exhibits if each.kind == "mask")
    assert len([each for each in results.exhibits if each.kind == "mask"]) == (4 + 2) * 2 * 3
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"secret-" not in content, path
            assert b"\x89PNG" not in content, path


def test_the_same_work_is_not_done_twice(discs: Path, folder: Path, results: Results) -> None:
    models = _models()
    assert _evaluate(discs, folder, *models) == results
    assert [model.asked for model in models] == [0] * 4


def test_the_teacher_mean_is_that_of_probabilities_even_of_old_dumps(
    discs: Path, folder: Path, results: Results
) -> None:
    built = _build(discs)
    members = [
        Embeddings(model, folder=folder / "embeddings", progress=SilentProgress()) for model in _models()[1:3]
    ]
    maps = [built._maps(member) for member in members]
    assert built._maps(members[0]) is maps[0], "trained once"
    joint = built.combine(members, [])
    shape = built.masks["test"].shapes[3]
    mean = (maps[0].probability(1, 3, shape) + maps[1].probability(1, 3, shape)) / 2
    assert joint.given_pixels[10 + 3] == (mean > 0.5).sum()
    stored = _dump(next((folder / "predictions" / "discs").glob("teacher_mean*.parquet")))
    np.testing.assert_array_equal(stored.values, joint.values)


def test_baselines(discs: Path) -> None:
    built = _build(discs)
    found = built.baselines()
    nothing = found[ALL_BACKGROUND]
    empty = nothing.truth_pixels == 0
    np.testing.assert_array_equal(nothing.values[:, 0], empty.astype(float))
    assert not nothing.given_pixels.any()
    mean = found[MEAN_MASK]
    assert mean.values[:, 0].mean() > nothing.values[:, 0].mean()
    masks = built.masks["train"]
    resized = np.mean(
        [
            np.asarray(Image.fromarray(masks[place].astype(np.float32)).resize((52, 36), BOX))
            for place in range(len(masks))
        ],
        axis=0,
    )
    place = built.masks["test"].shapes.index((36, 52))
    assert mean.given_pixels[place] == pytest.approx((resized > 0.5).sum(), rel=0.2)


def test_images_without_the_structure_can_be_left_out(discs: Path, tmp_path: Path) -> None:
    found = _evaluate(discs, tmp_path, PatchModel(), suite=suite(task(empty="skip", seeds=1, spacing=[2, 2])))
    rows = {row.metric: row for row in found.of(task="discs") if not row.modality}
    assert set(rows) == {"dice", "iou", "hd95_mm", "nsd_2mm", "missed", "invented"}
    assert (rows["dice"].n, rows["dice"].patients) == (8, 4)
    assert rows["invented"].n == 2


def test_the_grid_lies_where_the_model_looks(discs: Path, tmp_path: Path) -> None:
    """A model that crops sees the middle; its outlines stand there, and all else is background."""
    embeddings = [
        Embeddings(
            PatchModel(resize, patches=12, geometry=Geometry(48, 48, resize, "bilinear")),
            folder=tmp_path / "features",
            progress=SilentProgress(),
        )
        for resize in ("crop", "pad", "squash")
    ]
    built = _build(discs, seeds=1)
    crop, pad, squash = (built.predict(each) for each in embeddings)
    for whole in (pad, squash):
        assert whole.values[:, 0].mean() > 0.93
    assert crop.values[:, 0].mean() > 0.8
    shapes, maps = built.masks["test"].shapes, built._maps(embeddings[0])
    place = shapes.index((36, 52))
    probability = maps.probability(0, place, (36, 52))
    assert not probability[:, :8].any()
    assert not probability[:, -8:].any()
    assert probability[:, 8:-8].any()


def test_too_many_tokens_are_refused_before_they_are_made(discs: Path, tmp_path: Path) -> None:
    model = PatchModel()
    with pytest.raises(UserError, match=r"of student, 0\.0 GB \(40 rows of 64 x 12\); got 1e-06"):
        _evaluate(discs, tmp_path, model, suite=suite(task(max_gigabytes=1e-6)))
    assert model.asked == 1


def test_tokens_that_are_not_finite_are_named(discs: Path, tmp_path: Path) -> None:
    class Broken(PatchModel):
        def image_tokens(self, samples: Samples, **more: Any) -> Tokens | None:
            found = super().image_tokens(samples, **more)
            if found is not None and len(samples) > 2:
                found.values[2, 3] = np.nan
            return found

    with pytest.raises(NonFiniteError, match=r"student must be finite; .* row \d+\."):
        _evaluate(discs, tmp_path, Broken(), suite=suite(task()))


def test_the_bar_counts_epochs_and_no_image_is_hashed_again(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(samples: Samples) -> Any:
        msg = f"{len(samples)} images are read again."
        raise AssertionError(msg)

    built, told = _build(discs, epochs=2), RecordingProgress()
    embeddings = Embeddings(PatchModel(), folder=tmp_path, progress=told)
    monkeypatch.setattr(embeddings_module, "image_keys", refused)
    assert built.unmet_requirement(embeddings) == ""
    built.predict(embeddings)
    assert told.bars["student: discs"] == ("epochs", 4, 4)
