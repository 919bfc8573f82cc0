"""A store of two CLIPs and one image teacher, and their vectors as plain arrays."""

from pathlib import Path

import numpy as np

from meddistill.features.extract import extract
from meddistill.features.reader import FeatureStore
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher

IMAGES = 40
DIMS = {"alpha": 8, "beta": 12, "eye": 6}


def projected_store(folder: Path, *, precision: str = "float32", views: int = 1) -> FeatureStore:
    """40 images of 3 modalities, 35 distinct captions; beta knows x-rays alone."""
    teachers = {
        "alpha": toy_teacher("alpha", dim=DIMS["alpha"]),
        "beta": toy_teacher("beta", dim=DIMS["beta"], seed=1, modalities=("xray",)),
        "eye": toy_teacher("eye", kind=ToyImages, dim=DIMS["eye"], seed=2),
    }
    samples = toy_samples(folder / "images", IMAGES)
    extract(
        folder / "store", samples, teachers, SMALL.model_copy(update={"precision": precision, "views": views})
    )
    return FeatureStore.open(folder / "store")


def vectors(store: FeatureStore, teacher: str, tower: str) -> np.ndarray:
    """All rows of an output in float64, view 0 of an image."""
    rows = np.arange(store.output(teacher, tower).rows)
    views = np.zeros_like(rows) if tower == "image" else None
    return store.read(teacher, tower, rows, views=views).astype(np.float64)
