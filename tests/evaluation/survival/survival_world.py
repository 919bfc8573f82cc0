"""Patients whose images are the redder, the earlier they die."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from meddistill.evaluation.engine.suite_config import SuiteConfig


def write_patients(folder: Path, *, patients: int = 40, images: int = 2, seed: int = 0) -> Path:
    """`slices.csv` with images, and `patients.csv` with outcomes, ages, sexes (some blank) and sites."""
    random = np.random.default_rng(seed)
    rows, people = [], []
    for patient in range(patients):
        name, hazard = f"name-of-{patient}", random.normal()
        died, left = random.exponential(12 * np.exp(-1.5 * hazard)), random.exponential(25)
        age = "" if patient % 11 == 5 else f"{60 + 5 * hazard + random.normal(scale=8):.0f}"
        sex = ("f", "m", "")[random.choice(3, p=[0.45, 0.45, 0.1])]
        people.append((name, f"{min(died, left):.3f}", int(died <= left), age, sex, f"site {patient % 6}"))
        for number in range(images):
            red = np.clip(120 + 40 * hazard + random.normal(scale=10), 0, 255)
            pixels = np.stack([np.full((8, 8), red), random.uniform(60, 180, (8, 8)), np.full((8, 8), 90)], 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"p{patient}_{number}.png")
            rows.append((f"p{patient}_{number}.png", name, "mri" if patient % 2 else "ct"))
    _write(folder / "slices.csv", ("image", "person", "modality"), rows)
    _write(folder / "patients.csv", ("person", "months", "died", "age", "sex", "site"), people)
    return folder


def _write(path: Path, header: tuple[str, ...], rows: list[Any]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header)
        writer.writerows(rows)


def suite(**changes: Any) -> SuiteConfig:
    """One survival task; `changes` are of the task."""
    table = {
        "table": "slices.csv",
        "patient": "person",
        "modality": "modality",
        "patients": {"table": "patients.csv", "patient": "person"},
    }
    task = {
        "name": "death",
        "kind": "survival",
        "table": "slices",
        "time": "months",
        "event": "died",
        "clinical": ["age", "sex"],
        "repeats": 2,
        "folds": 4,
        "inner_folds": 3,
        "penalties": [0.01, 0.1, 1.0],
    }
    content = {"name": "cohort", "tables": {"slices": table}, "bootstrap": {"resamples": 60}}
    return SuiteConfig.model_validate({**content, "tasks": [{**task, **changes}]})
