"""What a stage must know of its teachers besides their outputs: logit scales and statistics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recipe_data
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.features.reader import FeatureStore
from meddistill.methods.embedding import EmbeddingMethod
from meddistill.recipes.steps import training
from recipe_data import TEACHERS, do_run, suite, write_yaml
from tiny_teachers import save_dinov2, save_onnx


def _recipe(world: Path, **changed: Any) -> Path:
    content = recipe_data.recipe()
    content["stages"] = [{**content["stages"][1], "epochs": 1, **changed}]
    return write_yaml(world, content)


def test_similarity_kl_takes_every_teachers_own_scale(own_world: Path, tmp_path: Path) -> None:
    do_run(_recipe(own_world, objectives={"similarity_kl": 1.0}), tmp_path / "out", until="train")
    lines = (tmp_path / "out" / "stages" / "distill" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["loss/similarity_kl"] > 0 for line in lines)


def test_standardized_targets_use_statistics_of_what_the_teacher_is_asked_about(
    own_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[EmbeddingMethod] = []

    def build(*args: Any, **named: Any) -> EmbeddingMethod:
        built.append(original(*args, **named))
        return built[-1]

    original = training.build_method
    monkeypatch.setattr(training, "build_method", build)
    objectives = {"cosine_smooth_l1": {"features": "standardized"}}
    do_run(_recipe(own_world, objectives=objectives), tmp_path / "out", until="train")
    store = FeatureStore.open(tmp_path / "out" / "features")
    for teacher in TEACHERS:
        kept = built[0].objectives["cosine_smooth_l1"][teacher]
        asked = store.tables.pairs[store.available(teacher, store.tables.pairs[:, 0])]
        for column, tower in enumerate(("image", "text")):
            rows = np.unique(asked[:, column])
            whole = np.zeros_like(rows) if tower == "image" else None
            values = torch.from_numpy(store.read(teacher, tower, rows, views=whole).astype(np.float64))
            torch.testing.assert_close(kept.get_buffer(f"{tower}_mean"), values.mean(0).float())
            spread = values.std(0, correction=0).float()
            torch.testing.assert_close(kept.get_buffer(f"{tower}_std"), spread)


def test_statistics_are_not_promised_for_teachers_asked_online(own_world: Path, tmp_path: Path) -> None:
    recipe = _recipe(own_world, objectives={"cosine_smooth_l1": {"features": "standardized"}})
    with pytest.raises(
        ConfigError, match=r"must do without statistics .* online.*set `features` to normalized"
    ):
        do_run(recipe, tmp_path / "out", "features.source=online", until="train")


def test_a_teacher_without_a_scale_is_refused_before_any_image_is_read(
    own_world: Path, tmp_path: Path
) -> None:
    save_dinov2(own_world.parent / "teachers" / "eye")
    content = recipe_data.recipe()
    content["teachers"]["eye"] = {"kind": "transformers", "model": "teachers/eye", "licence": "MIT"}
    content["stages"] = [{**content["stages"][1], "objectives": {"similarity_kl": 1.0}}]
    with pytest.raises(ConfigError, match=r"`eye` must have image and text embeddings .* stage of its own"):
        do_run(write_yaml(own_world, content), tmp_path / "out")
    assert not (tmp_path / "out" / "features").exists()


def test_another_logit_scale_of_a_graph_is_noticed(own_world: Path, tmp_path: Path) -> None:
    """It stands in the recipe and not in the graph's file, and decides probabilities and similarities."""
    graphs = save_onnx(own_world.parent / "teachers" / "graphs").model_dump(mode="json", exclude_unset=True)
    files = {name: f"teachers/graphs/{graphs[name]}" for name in ("model", "text_model", "tokenizer")}
    content = recipe_data.recipe()
    stage = {**content["stages"][1], "epochs": 1, "objectives": {"similarity_kl": 1.0}}
    content["stages"] = [stage]
    content["bundle"] = None
    content["teachers"] = {"general": content["teachers"]["general"]}
    write_yaml(own_world.parent / "suite.yaml", {**suite(), "tasks": suite()["tasks"][:1]})
    said, means, out = [], [], tmp_path / "out"
    for scale in (5.0, 50.0):
        content["teachers"]["graphs"] = {**graphs, **files, "licence": "MIT", "logit_scale": scale}
        diary = do_run(write_yaml(own_world, content), out, until="evaluate")
        said.append("\n".join(diary.said))
        assert FeatureStore.open(out / "features").card("graphs").logit_scale == scale
        (path,) = (out / "evaluation" / "predictions" / "modality").glob("teacher_mean-*.parquet")
        dump = read_predictions(path)
        assert dump is not None
        means.append(dump.scores)
    assert "stage distill: trained anew, since these changed: teachers.graphs.logit_scale" in said[1]
    assert "evaluate: done anew" in said[1]
    assert not np.array_equal(*means)
