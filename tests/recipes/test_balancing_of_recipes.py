"""Every selection and weighting in a run: real towers, stored features, teachers that know some rows only."""

import json
from pathlib import Path

import pytest

import recipe_data
from meddistill.errors import ConfigError, TableError
from recipe_data import TEACHERS, do_run, write_yaml

BALANCING = {
    "dropping": ({"kind": "teacher_dropping", "probability": 0.3}, {"kind": "uncertainty"}),
    "drawing": ({"kind": "batch_draw"}, {"kind": "torchjd", "method": "random"}),
    "asking": ({"kind": "available"}, {"kind": "confidence"}),
    "lowering": ({"kind": "available"}, {"kind": "torchjd", "method": "mgda", "options": {"max_iters": 50}}),
    "shortening": (
        {"kind": "available"},
        {"kind": "min_norm", "max_weight": 0.6, "smoothing": 0.5, "by": "modality"},
    ),
    "attending": ({"kind": "available"}, {"kind": "attention", "keys": "pooled"}),
    "levelling": ({"kind": "random_draw"}, {"kind": "torchjd", "method": "geometric_mean"}),
}


def test_stages_with_every_kind_of_balancing_are_trained(own_world: Path, tmp_path: Path) -> None:
    content = recipe_data.recipe()
    stage = {**content["stages"][1], "epochs": 1, "batch_size": 40, "micro_batch": 15}
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
            assert ("loss/weighting" in line) == (name in {"dropping", "attending"})


@pytest.mark.parametrize("column", ["modality", "scanner"])
def test_the_column_of_groups_must_be_there_and_have_few_values(own_world, tmp_path, column) -> None:
    content = recipe_data.recipe()
    weighting = {"kind": "min_norm", "by": {"modality": "image", "scanner": "scanner"}[column]}
    content["stages"] = [{**content["stages"][1], "weighting": weighting}]
    expected = {
        "modality": "`weighting.by` must name a column of at most 64 values; got .* in `image`",
        "scanner": "`scanner` must be a column, for a stage, a task, its `where` or `groups` names it",
    }
    with pytest.raises((ConfigError, TableError), match=expected[column]):
        do_run(write_yaml(own_world, content), tmp_path / "out", until="train")


def test_a_bound_for_more_teachers_than_there_are_is_told_with_all_other_mistakes(
    own_world, tmp_path
) -> None:
    """The recipe's teachers count, those without their weights too."""
    content = recipe_data.recipe()
    weighting = {"kind": "min_norm", "max_weight": 0.3}
    content["stages"] = [{**content["stages"][1], "weighting": weighting, "projection": {"kind": "pca"}}]
    content["features"] = {"source": "online"}
    with pytest.raises(ConfigError) as caught:
        do_run(write_yaml(own_world, content), tmp_path / "out", until="train")
    assert "`weighting.max_weight` must be at least 1 / (number of teachers)" in str(caught.value)
    assert f"got 0.3 for {', '.join(TEACHERS)}. Set 0.334 or more." in str(caught.value)
    assert "`projection` must be learned_head" in str(caught.value)
