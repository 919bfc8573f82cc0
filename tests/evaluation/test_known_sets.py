"""A public set from its files to scores: prepared, and judged by its own suite."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from colour_world import COLOURS, ColourModel

from meddistill.data.known.prepare import prepare
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.progress import SilentProgress

COUNTS = {"train": 60, "val": 8, "test": 12}
WORDS = {"malignant breast tumour": "red", "normal breast or benign tumour": "green"}


def test_medmnist_is_judged_as_it_is_prepared(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    colours = np.array([COLOURS[word] for word in WORDS.values()])
    arrays = {}
    for split, count in COUNTS.items():
        labels = np.arange(count, dtype=np.uint8)[:, None] % 2
        noise = random.integers(-30, 31, size=(count, 8, 8, 3))
        arrays[f"{split}_images"] = (colours[labels[:, 0], None, None] + noise).astype(np.uint8)
        arrays[f"{split}_labels"] = labels
    arrays["train_images"][0] = arrays["test_images"][0]  # a task would refuse the whole set for it
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "breastmnist.npz", **arrays)
    prepared = prepare("medmnist", tmp_path / "in", tmp_path / "out")
    assert prepared.suite is not None
    content = yaml.safe_load(prepared.suite.read_text())
    prompted = next(task for task in content["tasks"] if task["kind"] == "zero_shot")
    prompted["classes"] = WORDS  # the model's only words
    results = evaluate(
        [ColourModel(), ColourModel("sharp", "teacher", seed=1, pretraining_data=("BUSI",))],
        SuiteConfig.model_validate({**content, "bootstrap": {"resamples": 50}}),
        base=tmp_path / "out",
        folder=tmp_path / "evaluation",
        progress=SilentProgress(),
    )
    for task in ("breastmnist_zero_shot", "breastmnist_linear_probe", "breastmnist_knn"):
        for model in ("student", "sharp"):
            row = results.main(model, task)
            assert row is not None
            assert row.value == pytest.approx(1.0), (model, task)
            assert row.n == COUNTS["test"]
