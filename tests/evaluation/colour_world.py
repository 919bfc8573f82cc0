"""A small world of coloured images, and models that know colours."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from meddistill.data.samples import Samples
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.imaging import decode

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
FIELDS = ("image", "text", "label", "patient", "modality", "split", "task")


class ColourModel:
    """A dual encoder: mean colour of the image against colour words of the text, in `dim` dimensions."""

    def __init__(
        self,
        name: str = "student",
        role: str = "student",
        *,
        noise: float = 0.0,
        seed: int = 0,
        has_text: bool = True,
        dim: int = 8,
        pretraining_data: tuple[str, ...] = (),
    ) -> None:
        self.name, self.role = name, role
        self.fingerprint = f"{name}{noise}{seed}{has_text}{dim}".encode().hex().ljust(64, "0")
        self.logit_scale: float | None = 20.0 if has_text else None
        self.pretraining_data = pretraining_data
        self.images_seen = 0
        self._noise, self._has_text = noise, has_text
        basis = np.random.default_rng(seed).normal(size=(dim, 3))
        self._basis = np.linalg.qr(basis)[0]

    def embed_images(self, samples: Samples, *, advance: Callable[[int], None]) -> np.ndarray:
        found = []
        for ref in samples.refs:
            pixels = decode(ref, samples.options).astype(np.float64)
            mean = pixels.mean(axis=(0, 1)) / 255 - 0.4
            random = np.random.default_rng(int(pixels.sum()))
            found.append(self._basis @ (mean + self._noise * random.normal(size=3)))
            advance(1)
            self.images_seen += 1
        return np.array(found, dtype=np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray | None:
        if not self._has_text:
            return None
        vectors = []
        for text in texts:
            # A word is not quite its colour, so that template and image never agree to the last bit.
            vector = np.full(3, 0.01 * len(text))
            for colour, value in COLOURS.items():
                if colour in text:
                    vector = vector + np.array(value) / 255 - 0.4
            vectors.append(self._basis @ vector)
        return np.array(vectors, dtype=np.float32)


def write_world(folder: Path, *, patients: int = 24, per_patient: int = 2, seed: int = 0) -> Path:
    """`table.csv` with images of one colour each; half train, a quarter each validation and test."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        split = ("train", "test", "train", "val")[patient % 4]
        for number in range(per_patient):
            label = list(COLOURS)[(patient // 4 + number) % 3]
            noise = random.integers(-39, 40, size=(8, 8, 3))
            name = f"p{patient}_{number}.png"
            pixels = np.clip(np.array(COLOURS[label]) + noise + random.integers(-30, 31, size=3), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            modality = "xray" if patient % 8 < 4 else "ct"
            text = f"{label} picture number {patient % 5}"
            rows.append((name, text, label, f"name-of-{patient}", modality, split, "colour"))
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(FIELDS)
        writer.writerows(rows)
    return folder


def table(split: str, **more: Any) -> dict[str, Any]:
    named = {"table": "table.csv", "text": "text", "patient": "patient", "modality": "modality"}
    return {**named, "where": {"split": split}, **more}


def suite(**more: Any) -> SuiteConfig:
    content = {
        "name": "colours",
        "tables": {split: table(split) for split in ("train", "val", "test")},
        "bootstrap": {"resamples": 100},
        "tasks": [
            {
                "name": "zero",
                "kind": "zero_shot",
                "table": "test",
                "where": {"task": "colour"},
                "classes": list(COLOURS),
                "templates": ["a {} picture", "{c}"],
            },
            {
                "name": "probe",
                "kind": "linear_probe",
                "train": "train",
                "validation": "val",
                "test": "test",
                "fractions": [1.0, 0.5],
                "seeds": 2,
            },
            {"name": "near", "kind": "knn", "train": "train", "test": "test", "k": 5},
            {"name": "search", "kind": "retrieval", "table": "test"},
        ],
        **more,
    }
    return SuiteConfig.model_validate(content)
