"""A forward pass of one row has no batch statistics: told before anything is trained."""

import json
import re
from pathlib import Path

import pytest
import torch

from coloured_world import STUDENT_TRAINING, world
from meddistill.errors import ConfigError
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.recipes.requirements import single_rows
from meddistill.recipes.schema import ContrastiveStage
from meddistill.training.batches import chunks_of
from recipe_data import VIT, do_run


def _stage(batch_size: int, micro_batch: int | None) -> ContrastiveStage:
    return ContrastiveStage(
        name="pairs", method="contrastive", batch_size=batch_size, micro_batch=micro_batch
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_it_is_told_wherever_rows_are_cut_so_and_the_remedy_works(processes: int) -> None:
    for share in range(2, 20):
        for micro_batch in (None, *range(1, 25)):
            told = single_rows(_stage(share * processes, micro_batch), processes=processes)
            cut = chunks_of(torch.zeros(share), micro_batch)
            assert bool(told) == any(part.stop - part.start == 1 for part in cut), (share, micro_batch)
            if told:
                remedy = int(re.search(r"Set (\d+), or leave it out\.", told[0])[1])
                assert not single_rows(_stage(share * processes, remedy), processes=processes)
    assert "`batch_size` must leave two rows" in single_rows(_stage(processes, None), processes=processes)[0]


def test_check_and_run_tell_it_of_students_with_batch_normalisation(tmp_path: Path) -> None:
    stages = [{"name": "pairs", "method": "contrastive", **STUDENT_TRAINING, "micro_batch": 5}]
    recipe, out = world(tmp_path / "world", stages=stages, teachers={}), tmp_path / "run"
    told = "stage pairs: `micro_batch` must leave two rows .* got 5 for the 16 rows of a process. Set 4, or"
    with pytest.raises(ConfigError, match=told):
        check_recipe(load_recipe(recipe), subject="recipe", out=out)
    with pytest.raises(ConfigError, match=told):
        do_run(recipe, out, until="train")
    (recipe.parent / "vit.json").write_text(json.dumps(VIT))  # layer norms see a row alone
    student = "student={open_clip: vit.json}"
    check_recipe(load_recipe(recipe, overrides=[student]), subject="recipe", out=out)
