"""Every selection and weighting in a run: real towers, stored features, teachers that know some rows only."""

import json
from pathlib import Path

import pytest

import recipe_data
from recipe_data import TEACHERS, do_run, write_yaml

BALANCING = {
    "dropping": ({"kind": "teacher_dropping", "probability": 0.3}, {"kind": "uncertainty"}),
    "drawing": ({"kind": "batch_draw"}, {"kind": "torchjd", "method": "random"}),
    "asking": ({"kind": "available"}, {"kind": "confidence"}),
    "lowering": ({"kind": "available"}, {"kind": "torchjd", "method": "mgda", "options": {"max_iters": 50}}),
    "levelling": ({"kind": "random_draw"}, {"kind": "torchjd", "method": "geometric_mean"}),
}


def test_stages_with_every_kind_of_balancing_are_trained(own_world: Path, tmp_path: Path) -> None:
    content = recipe_data.recipe()
    stage = {**content["stages"][1], "epochs": 1, "micro_batch": 6}
    content["stages"] = [
        {**stage, "name": name, "selection": selection, "weighting": weighting}
        for name, (selection, weighting) in BALANCING.items()
    ]
    do_run(write_yaml(own_world, content), tmp_path / "out", until="train")
    for name in BALANCING:
        lines = (tmp_path / "out" / "stages" / name / "log.jsonl").read_text().splitlines()
        for line in map(json.loads, lines):
            shares = [line[f"teacher/{teacher}/weight"] for teacher in TEACHERS]
            assert sum(shares) == pytest.approx(1)
            if name == "drawing":
                assert sorted(shares) == [0, 0, 1]
            assert ("loss/weighting" in line) == (name == "dropping")
