"""Suites of bags over the world of coloured images, and files of stored features."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from colour_world import COLOURS
from PIL import Image

from meddistill.evaluation.engine.suite_config import SuiteConfig

FIELDS = ("image", "label", "grade", "patient", "split", "modality", "slide")
TABLE = {"table": "bags.csv", "patient": "patient", "modality": "modality"}


def write_bags(folder: Path, *, patients: int = 30, seed: int = 0) -> Path:
    """`bags.csv`: 3 to 6 images a patient; bags with a red image are `ill`, all others green or blue."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        count, ill = int(random.integers(3, 7)), patient % 2
        split = ("train", "train", "test", "test", "val", "train")[patient // 2 % 6]
        for number in range(count):
            colour = "red" if ill and number == 1 else ("green", "blue")[int(random.integers(2))]
            pixels = np.array(COLOURS[colour]) + random.integers(-30, 31, size=(6, 6, 3))
            name = f"b{patient}_{number}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
            modality, slide = ("ct", "xray")[patient % 3 == 0], f"slide{patient}"
            label = ("well", "ill")[ill]
            rows.append((name, label, ill, f"name-of-{patient}", split, modality, slide))
    write_rows(folder / "bags.csv", rows)
    return folder


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(FIELDS)
        writer.writerows(rows)


def bag_suite(*, validation: bool = False, **more: Any) -> SuiteConfig:
    task = {
        "name": "diagnosis",
        "kind": "bag_classification",
        "train": "train",
        "test": "test",
        "epochs": 15,
        "learning_rate": 0.01,
        **({"validation": "val"} if validation else {}),
        **more,
    }
    tables = {split: {**TABLE, "where": {"split": split}} for split in ("train", "val", "test")}
    content = {"name": "bags", "tables": tables, "bootstrap": {"resamples": 100}, "tasks": [task]}
    return SuiteConfig.model_validate(content)


def write_features(path: Path, features: np.ndarray, *, layout: str = "clam") -> None:
    """A file as CLAM or TRIDENT writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = features.shape[-2] if features.ndim > 1 else 0
    corners = np.arange(2 * count).reshape(count, 2) * 256
    with h5py.File(path, "w") as file:
        if layout == "clam":
            file["features"] = features
            file["coords"] = corners.astype(np.int64)
            file["coords"].attrs.update({"patch_size": 256, "patch_level": 0, "level_dim": [9, 9]})
        else:
            file.create_dataset("features", data=features.astype(np.float16), chunks=True)
            file["features"].attrs["name"] = "slide"
            file["coords"] = corners.astype(np.int32)
            file["coords"].attrs.update(
                {"patch_size": 256, "patch_size_level0": 512, "level0_magnification": 40, "name": "slide"}
            )
