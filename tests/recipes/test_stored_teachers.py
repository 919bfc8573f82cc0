"""A student learns from features alone: imported ones, or those of another run; no teacher has weights."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from meddistill.cli.import_lines import recipe_lines
from meddistill.errors import ConfigError, StoreError, TeacherError, UserError
from meddistill.features.importing.importer import Imported, import_published
from meddistill.features.sources import StoredTeachers
from meddistill.progress import SilentProgress
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.session import Session
from published_features import DIMS, Published, publish
from recipe_data import LIGHT, RESNET, do_run, write_yaml

STAGE = {
    "name": "distill",
    "method": "embedding",
    "objectives": {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0},
    "selection": {"kind": "random_draw"},
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "log_every": 1,
}


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return publish(tmp_path / "published")


@pytest.fixture
def imported(published: Published, tmp_path: Path) -> Imported:
    return import_published(published.folder, tmp_path / "store")


def recipe(imported: Imported, **changes: Any) -> dict[str, Any]:
    lines = yaml.safe_load(yaml.safe_dump(recipe_lines(imported)))
    rest = {"name": "from-features", "student": RESNET, "stages": [STAGE], "licence_policy": "any"}
    return {**lines, **rest, **changes}


def test_a_student_is_trained_exported_and_reported(
    imported: Imported, published: Published, tmp_path: Path
) -> None:
    path, out = write_yaml(tmp_path / "recipe.yaml", recipe(imported)), tmp_path / "run"
    diary = do_run(path, out, LIGHT)
    assert "features: read from store" in diary.said
    assert not (out / "features").exists()
    assert (out / "student" / "open_clip_model.safetensors").is_file()
    assert (out / "audit.json").is_file()
    assert "The teachers before training" in (out / "report.html").read_text()
    card = (out / "bundle" / "README.md").read_text()
    assert all(name in card for name in DIMS)


def test_batches_hold_the_numbers_of_the_files(
    imported: Imported, published: Published, tmp_path: Path
) -> None:
    path = write_yaml(tmp_path / "recipe.yaml", recipe(imported))
    session = Session(load_recipe(path), RunFolder(tmp_path / "run"), progress=SilentProgress())
    source = StoredTeachers(
        imported.store, session.samples, tuple(session.teachers), available=session.availability.masks
    )

    class Rows:
        samples = torch.arange(len(published.lines))
        views = torch.zeros(len(published.lines), dtype=torch.int64)

        def __len__(self) -> int:
            return len(published.lines)

    outputs = source.outputs(Rows())  # type: ignore[arg-type]
    for place, line in enumerate(published.lines[:-1]):
        for teacher in DIMS:
            listed = teacher in line["available_clips"]
            assert bool(outputs[teacher].available[place]) == listed
            expected = published.raw[place].get(f"{teacher}_img", torch.zeros(DIMS[teacher]))
            np.testing.assert_allclose(outputs[teacher].image[place], expected, atol=2e-3, rtol=2e-3)


def test_what_is_refused(imported: Imported, tmp_path: Path) -> None:
    known = recipe(imported)
    without = write_yaml(tmp_path / "a.yaml", {**known, "features": {}})
    with pytest.raises(StoreError, match=r"availability\.column"):
        do_run(without, tmp_path / "a", until="features")
    online = write_yaml(tmp_path / "b.yaml", {**known, "features": {"source": "online"}})
    with pytest.raises(ConfigError, match="must be stored for teachers of kind"):
        load_recipe(online)
    two = {**known["teachers"], "more": {"kind": "python", "factory": "a:b"}}
    with pytest.raises(ConfigError, match="none of them"):
        load_recipe(write_yaml(tmp_path / "c.yaml", {**known, "teachers": two}))
    nobody = {"Nobody": next(iter(known["teachers"].values()))}
    with pytest.raises(TeacherError, match="holds a teacher 'Nobody'"):
        do_run(write_yaml(tmp_path / "d.yaml", {**known, "teachers": nobody}), tmp_path / "d")
    shutil.rmtree(imported.store.path)
    with pytest.raises(UserError, match="must be a feature store"):
        do_run(write_yaml(tmp_path / "e.yaml", known), tmp_path / "e")


def test_a_check_needs_no_weights(imported: Imported, tmp_path: Path) -> None:
    loaded = load_recipe(write_yaml(tmp_path / "recipe.yaml", recipe(imported)))
    result = check_recipe(loaded, subject="recipe", out=tmp_path / "run")
    assert result.cards.keys() == DIMS.keys()
    assert result.missing == ()


def test_a_run_can_learn_from_the_store_of_another(
    small_world: Path, finished_run: Path, tmp_path: Path
) -> None:
    known = yaml.safe_load(small_world.read_text())
    store = str(finished_run / "features")
    teachers = {
        name: {"kind": "stored", "store": store, "licence": "MIT", "modalities": config["modalities"]}
        for name, config in known["teachers"].items()
    }
    stages = [{**STAGE, "epochs": 1}]
    changed = {**known, "teachers": teachers, "stages": stages}
    path = write_yaml(small_world.parent / "from_store.yaml", changed)
    out = tmp_path / "run"
    do_run(path, out, until="evaluate")
    results = (out / "evaluation" / "results.json").read_text()
    assert '"name":"radiology"' not in results.replace(" ", "")
    assert (out / "student").is_dir()


def test_a_fusion_stage_takes_no_name_of_a_teacher_in_the_store(
    small_world: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Of one that the recipe does not list, either, and before anything is trained."""
    known = yaml.safe_load(small_world.read_text())
    stored = {"kind": "stored", "store": str(finished_run / "features"), "licence": "MIT"}
    teachers = dict.fromkeys(("radiology", "microscopy"), stored)
    fuse = {**STAGE, "name": "general", "method": "fusion", "dim": 8, "hidden": 8}
    del fuse["objectives"], fuse["selection"]
    path = write_yaml(
        small_world.parent / "taken.yaml", {**known, "teachers": teachers, "stages": [fuse, STAGE]}
    )
    with pytest.raises(
        ConfigError, match=r"stage general: `name` must be new in .*was extracted or imported"
    ):
        check_recipe(load_recipe(path), subject="recipe", out=tmp_path / "run")


def test_values_by_teacher_are_asked_of_those_with_a_weight(imported: Imported, tmp_path: Path) -> None:
    known = recipe(imported)
    first, *others = known["teachers"]
    stage = {
        **STAGE,
        "objectives": {
            "class_vector_kl": {
                "weight": 1.0,
                "temperature": dict.fromkeys(others, 2.0),
                "teacher_scale": 20.0,
            }
        },
        "weighting": {"kind": "fixed", "weights": {first: 0.0, **dict.fromkeys(others, 1.0)}},
        "selection": {"kind": "available"},
    }
    loaded = load_recipe(write_yaml(tmp_path / "recipe.yaml", {**known, "stages": [stage]}))
    check_recipe(loaded, subject="recipe", out=tmp_path / "run")
