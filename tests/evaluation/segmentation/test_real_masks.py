"""Real images and label maps, where they are; tokens are raw pixels."""

import csv
from pathlib import Path

from disc_world import PatchModel

from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.segmentation.masks import read_masks
from meddistill.imaging import Geometry
from meddistill.progress import SilentProgress

TABLE = {"table": "segmentation.csv", "patient": "patient_id", "modality": "modality"}
TASKS = {"lungs": [1], "retina_vessel": [1, 2, 3], "us_vessel": [2]}


def _suite(tasks: dict[str, list[int]]) -> SuiteConfig:
    return SuiteConfig.model_validate(
        {
            "name": "real",
            "tables": {
                split: {**TABLE, "where": {"split": split, "task": list(tasks)}}
                for split in ("train", "val", "test")
            },
            "bootstrap": {"resamples": 200},
            "tasks": [
                {
                    "name": name,
                    "kind": "segmentation_probe",
                    "train": "train",
                    "validation": "val",
                    "test": "test",
                    "where": {"task": name},
                    "foreground": labels,
                    "seeds": 1,
                    "epochs": 12,
                    "learning_rate": 0.03,
                }
                for name, labels in tasks.items()
            ],
        }
    )


def test_masks_have_the_pixels_that_the_table_counts(real_data: Path) -> None:
    suite = _suite(TASKS)
    tables = SuiteTables(suite, base=real_data)
    with (real_data / "segmentation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for task in suite.tasks:
        part = tables.parts(task)["test"]
        counted = [int(rows[row - 1]["foreground_px"]) for row in part.samples.rows]
        assert list(read_masks(part, task).pixels) == counted


def test_lungs_are_found_from_raw_pixels(real_data: Path, tmp_path: Path) -> None:
    raster = Geometry(96, 96, "pad", "bilinear")
    models = [
        PatchModel(patches=12, geometry=raster),
        PatchModel("noisy", "teacher", patches=12, noise=1.0, geometry=raster),
    ]
    suite = _suite({"lungs": [1]})
    results = evaluate(models, suite, base=real_data, folder=tmp_path, progress=SilentProgress())
    row = results.main("student", "lungs")
    assert row is not None
    assert row.n == 36
    assert row.low < row.value < row.high
    assert results.main("student", "lungs").value > results.main("noisy", "lungs").value
