"""A small world of bright discs with label maps, and models whose patch tokens are pixels."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from meddistill.data.samples import Samples
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.models.protocols import Tokens
from meddistill.imaging import Geometry, decode, rasterize

FIELDS = ("image", "mask", "patient", "modality", "split", "spacing")


class PatchModel:
    """An image encoder whose patch tokens are the means of small squares of the raster, and noise."""

    def __init__(
        self,
        name: str = "student",
        role: str = "student",
        *,
        noise: float = 0.0,
        patches: int = 8,
        geometry: Geometry | None = None,
        gives: bool = True,
    ) -> None:
        self.name, self.role = name, role
        self.fingerprint = f"{name}{noise}{patches}{geometry}{gives}".encode().hex().ljust(64, "0")
        self.logit_scale: float | None = None
        self.pretraining_data: tuple[str, ...] = ()
        self.asked = 0
        self._noise, self._patches, self._gives = noise, patches, gives
        self.geometry = geometry
        self.cut = None

    def embed_images(self, samples: Samples, *, advance: Callable[[int], None]) -> np.ndarray:
        values = self._values(samples)
        advance(len(samples))
        return values.mean(axis=1).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray | None:  # noqa: ARG002
        return None

    def image_tokens(self, samples: Samples, *, advance: Callable[[int], None]) -> Tokens | None:
        if not self._gives:
            return None
        self.asked += 1
        values = self._values(samples)
        advance(len(samples))
        mask = np.ones(values.shape[:2], dtype=bool)
        grid = (self._patches, self._patches)
        return Tokens(values=values.astype(np.float16), mask=mask, grid=grid, geometry=self.geometry)

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:  # noqa: ARG002
        return None

    def _values(self, samples: Samples) -> np.ndarray:
        side = 4 * self._patches
        geometry = self.geometry or Geometry(side, side, "squash", "bilinear")
        found = []
        for ref in samples.refs:
            pixels = rasterize(decode(ref, samples.options), geometry).astype(np.float64) / 255
            step = geometry.height // self._patches
            half = max(1, step // 2)
            squares = pixels.reshape(self._patches, step // half, half, self._patches, step // half, half, 3)
            means = squares.mean(axis=(2, 5)).transpose(0, 2, 1, 3, 4).reshape(self._patches**2, -1)
            random = np.random.default_rng(int(pixels.sum()))
            found.append(means + self._noise * random.normal(size=means.shape))
        return np.array(found)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows + 0.5 - centre[0], columns + 0.5 - centre[1]) <= radius


def write_discs(folder: Path, *, patients: int = 20, seed: int = 0) -> Path:
    """`table.csv`: a bright disc (label 2) beside a dim one (label 1); every fifth patient has none."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        split = ("train", "test", "train", "val")[patient % 4]
        for number in range(2):
            shape = (48, 40) if number else (36, 52)
            centre = random.uniform(12, 24, size=2)
            bright = disc(shape, (centre[0], centre[1]), random.uniform(7, 10))
            dim = disc(shape, (6, shape[1] - 6), 4)
            labels = np.zeros(shape, dtype=np.uint8)
            labels[dim] = 1
            if patient % 5 != 4:
                labels[bright] = 2
            light = random.normal(40, 8, size=shape) + 60 * (labels == 1) + 150 * (labels == 2)
            name = f"secret-{patient}-{number}"
            Image.fromarray(np.clip(light, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
            Image.fromarray(labels).save(folder / f"{name}_mask.png")
            modality = "ct" if patient % 8 < 4 else "mri"
            row = (f"{name}.png", f"{name}_mask.png", f"secret-{patient}", modality, split, "0.5|2")
            rows.append(row)
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(FIELDS)
        writer.writerows(rows)
    return folder


def table(split: str, **more: Any) -> dict[str, Any]:
    named = {"table": "table.csv", "patient": "patient", "modality": "modality"}
    return {**named, "where": {"split": split}, **more}


def task(**more: Any) -> dict[str, Any]:
    return {
        "name": "discs",
        "kind": "segmentation_probe",
        "train": "train",
        "validation": "val",
        "test": "test",
        "foreground": [2],
        "seeds": 2,
        "epochs": 25,
        "batch_size": 4,
        **more,
    }


def suite(*tasks: dict[str, Any]) -> SuiteConfig:
    content = {
        "name": "discs",
        "tables": {split: table(split) for split in ("train", "val", "test")},
        "bootstrap": {"resamples": 100},
        "tasks": list(tasks) or [task()],
    }
    return SuiteConfig.model_validate(content)
