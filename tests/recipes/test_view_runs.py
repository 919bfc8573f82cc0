"""Several stored views a sample: a student that learns from them is the one that asks its teachers online."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from meddistill.features.reader import FeatureStore
from meddistill.features.summary import summarize
from recipe_data import do_run

VIEWS = 3
SHORT = (
    "stages.0.epochs=1",
    "stages.1.epochs=2",
    "stages.1.selection={kind: available}",
    "features.precision=float32",
    f"features.views={VIEWS}",
    "evaluate=null",
    "bundle=null",
)


def _student(recipe: Path, out: Path, *overrides: str) -> dict[str, torch.Tensor]:
    do_run(recipe, out, *SHORT, *overrides, until="train")
    (weights,) = (out / "student").glob("*.safetensors")
    return load_file(weights)


def _distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """|one - other|₂ over all learnt weights."""
    learnt = [name for name in one if "running" not in name and "tracked" not in name]
    return sum(float((one[name] - other[name]).square().sum()) for name in learnt) ** 0.5


def _first_losses(out: Path) -> dict[str, float]:
    first = json.loads((out / "stages" / "distill" / "log.jsonl").read_text().splitlines()[0])
    return {name: value for name, value in first.items() if "loss" in name}


@pytest.fixture(scope="module")
def stored(small_world: Path, tmp_path_factory: pytest.TempPathFactory):
    """The run folder and the student of consistent, stored views."""
    out = tmp_path_factory.mktemp("views") / "run"
    return out, _student(small_world, out, "stages.1.views=consistent")


def test_the_student_is_the_same_as_online(small_world: Path, stored, tmp_path: Path) -> None:
    out, student = stored
    same, other = tmp_path / "online", tmp_path / "fixed"
    online = _student(small_world, same, "stages.1.views=consistent", "features.source=online")
    fixed = _student(small_world, other, "stages.1.views=fixed")
    assert _first_losses(out) == pytest.approx(_first_losses(same), rel=1e-4)
    assert _first_losses(out) != pytest.approx(_first_losses(other), rel=1e-2)
    # Ten steps of Adam carry the last digits of the features a long way, but not as far as other views.
    assert _distance(student, online) < 0.1 * _distance(student, fixed)


def test_the_store_holds_every_view_once(stored) -> None:
    out, _ = stored
    store = FeatureStore.open(out / "features")
    found = summarize(store)
    assert found.views == store.views == VIEWS
    for teacher in store.teachers:
        rows = store.manifest.rows("images")
        image = store.read(teacher, "image", np.arange(rows))
        assert image.shape == (rows, VIEWS, store.card(teacher).dims["image"])
        assert store.statistics(teacher)["image"].count == rows * VIEWS
        assert store.statistics(teacher)["text"].count == store.manifest.rows("texts")
        # Views are different crops: none repeats another.
        assert (np.abs(np.diff(image, axis=1)).max(axis=(0, 2)) > 0).all()
    dims = sum(card.dims["image"] * VIEWS + card.dims["text"] for card in map(store.card, store.teachers))
    assert 4 * dims < found.pair_bytes < 4 * dims + 2 * len(store.teachers) * 4096 / 8
