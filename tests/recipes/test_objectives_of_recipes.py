"""Every objective in a run: real towers, stored features, a log that names each."""

import json
from pathlib import Path

import recipe_data
from meddistill.objectives.config import EmbeddingObjectives
from recipe_data import do_run, write_yaml


def test_a_stage_with_every_objective_is_trained(own_world: Path, tmp_path: Path) -> None:
    objectives = dict.fromkeys(EmbeddingObjectives.model_fields, 1.0)
    objectives["masked_feature_distillation"] = {"weight": 1.0, "patch_size": 8, "ratio": 0.5}
    content = recipe_data.recipe()
    content["stages"] = [{**content["stages"][1], "epochs": 1, "objectives": objectives, "micro_batch": 4}]
    do_run(write_yaml(own_world, content), tmp_path / "out", until="train")
    lines = (tmp_path / "out" / "stages" / "distill" / "log.jsonl").read_text().splitlines()
    for line in map(json.loads, lines):
        assert {name for name in objectives if line[f"loss/{name}"] > 0} == objectives.keys()
