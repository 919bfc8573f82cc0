"""A recipe with each projection: where its maps lie, and that a broken-off run goes on with the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import recipe_data
from meddistill.errors import ConfigError
from meddistill.features.reader import FeatureStore
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.training.checkpoint import Checkpoints
from recipe_data import TEACHERS, do_run, hashes, write_yaml

QUICK = {"hidden_dim": 16, "steps": 10, "batch_size": 16}
PROJECTIONS = {
    "linear_autoencoder": {"kind": "linear_autoencoder", **QUICK},
    "pca": {"kind": "pca"},
    "joint_pca": {"kind": "joint_pca"},
    "phi_s": {"kind": "phi_s"},
}
MAPS = Path("stages") / "distill" / "projection.safetensors"
STUDENT = Path("student") / "open_clip_model.safetensors"


def projecting(world: Path, projection: dict, **changed) -> Path:
    """The recipe of a world with this projection, beside the given one."""
    content = recipe_data.recipe()
    content["stages"][1] |= {"projection": projection, **changed}
    return write_yaml(world.with_name(f"{projection['kind']}.yaml"), content)


@pytest.mark.parametrize("kind", [*PROJECTIONS])
def test_a_recipe_runs_with_each_projection(own_world: Path, own_run: Path, kind: str) -> None:
    recipe = projecting(own_world, PROJECTIONS[kind])
    student = (own_run / STUDENT).read_bytes()
    diary = do_run(recipe, own_run, until="train")
    assert any(line.startswith("stage distill: trained anew, since these") for line in diary.said)
    assert ("Fitting the projection" in diary.opened) == (kind in ("linear_autoencoder", "joint_pca"))
    maps = load_file(own_run / MAPS)
    assert {name.split("/")[0] for name in maps} == set(TEACHERS)
    store = FeatureStore.open(own_run / "features")
    for name in TEACHERS:
        dim = store.card(name).dims["image"]
        assert maps[f"{name}/weight"].shape == (dim if kind == "phi_s" else 16, dim)
    assert (own_run / STUDENT).read_bytes() != student
    last = json.loads((own_run / "stages" / "distill" / "log.jsonl").read_text().splitlines()[-1])
    assert last["loss/feature_mse"] > 0
    before = hashes(own_run)
    again = do_run(recipe, own_run, until="train")
    assert [label for label in again.opened if not label.startswith("checking")] == []
    assert hashes(own_run) == before


class PowerCut(Exception):
    """The power went."""


@pytest.mark.parametrize(("kind", "lost"), [("linear_autoencoder", False), ("phi_s", True)])
def test_a_broken_off_run_ends_as_a_whole_one(
    own_world: Path, own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, lost: bool
) -> None:
    """After the first checkpoint; also where the file of the maps is gone, which the checkpoint has too."""
    recipe = projecting(own_world, PROJECTIONS[kind])
    whole = shutil.copytree(own_run, tmp_path / "whole")
    do_run(recipe, whole, until="train")
    save = Checkpoints.save

    def save_and_die(self: Checkpoints, progressed: object) -> None:
        save(self, progressed)
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(PowerCut):
            do_run(recipe, own_run, until="train")
    fitted = (own_run / MAPS).read_bytes()
    if lost:
        (own_run / MAPS).write_bytes(fitted[:-1])
    diary = do_run(recipe, own_run, until="train")
    assert any(line.startswith("Going on after step") for line in diary.said)
    assert (own_run / MAPS).read_bytes() == fitted == (whole / MAPS).read_bytes()
    assert (own_run / STUDENT).read_bytes() == (whole / STUDENT).read_bytes()


def test_other_options_give_other_maps(own_world: Path, own_run: Path) -> None:
    do_run(projecting(own_world, PROJECTIONS["linear_autoencoder"]), own_run, until="train")
    first = load_file(own_run / MAPS)
    do_run(projecting(own_world, {**PROJECTIONS["linear_autoencoder"], "seed": 1}), own_run, until="train")
    second = load_file(own_run / MAPS)
    assert not np.allclose(first["general/weight"], second["general/weight"])


def test_an_autoencoder_sees_the_samples_that_the_teacher_is_asked_about(
    own_world: Path, own_run: Path
) -> None:
    """Other modalities of one teacher change its map; no stored number changes."""
    recipe = projecting(own_world, PROJECTIONS["linear_autoencoder"])
    do_run(recipe, own_run, until="train")
    first = load_file(own_run / MAPS)
    do_run(recipe, own_run, "teachers.microscopy.modalities=[dermatology]", until="train")
    assert not np.allclose(first["microscopy/weight"], load_file(own_run / MAPS)["microscopy/weight"])


def test_projections_need_a_store_and_check_says_so_with_all_else(own_world: Path, tmp_path: Path) -> None:
    content = recipe_data.recipe()
    stage = content["stages"][1]
    content["stages"] += [
        {**stage, "name": f"as_{kind}", "projection": PROJECTIONS[kind]} for kind in PROJECTIONS
    ]
    content["features"] = {"source": "online"}
    content["student"] = {"image_tower": "test_resnett", "image_size": 32}
    recipe = write_yaml(own_world, content)
    with pytest.raises(ConfigError) as error:
        check_recipe(load_recipe(recipe), subject="recipe", out=tmp_path / "out")
    mistakes = "\n".join(error.value.mistakes)
    for kind in PROJECTIONS:
        assert f"stage as_{kind}: `projection` must be learned_head for teachers that run online" in mistakes
    assert "stage distill: `projection`" not in mistakes
    assert "test_resnett" in mistakes
