"""Columns beside a table's own: only what reads one is done anew when its values change."""

from pathlib import Path

from coloured_world import STUDENT_TRAINING, world
from meddistill.progress import SilentProgress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.run_folder import RunFolder, digest
from meddistill.recipes.session import Session
from recipe_data import do_run

STAGE = {"method": "embedding", "objectives": {"feature_mse": {"weight": 1.0}}, **STUDENT_TRAINING}


def _mark(recipe: Path, column: str, values: str) -> None:
    """Give the rows of the table these values in turn, in one column beside its own."""
    table, cells = recipe.parent / "pairs.csv", values.split()
    header, *lines = [",".join(line.split(",")[:4]) for line in table.read_text().splitlines()]
    marked = [f"{line},{cells[number % len(cells)]}" for number, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},{column}", *marked]) + "\n")


def test_the_column_of_one_stage_is_no_matter_of_the_others(tmp_path: Path) -> None:
    stages = [{"name": name, **STAGE, "batch_size": 32} for name in ("first", "second")]
    recipe, run = world(tmp_path / "world", stages=stages), tmp_path / "run"
    _mark(recipe, "scanner", "p q")
    do_run(recipe, run, until="train")
    weighed = ["stages.1.weighting.kind=min_norm", "stages.1.weighting.by=scanner"]
    said = do_run(recipe, run, *weighed, until="train").said
    assert "stage first: done already" in said
    assert [line for line in said if line.startswith("stage second: trained anew")]
    _mark(recipe, "scanner", "p p q")
    said = do_run(recipe, run, *weighed, until="train").said
    assert {"features: done already", "stage first: done already"} <= set(said)
    assert [line for line in said if line.startswith("stage second: trained anew, since these changed: gr")]


def test_the_column_of_teachers_is_a_matter_of_all(tmp_path: Path) -> None:
    recipe = world(tmp_path / "world", validated=True)
    loaded = load_recipe(recipe, overrides=["features.availability.column=listed"])
    seen = []
    for values in ("warm|cold", "warm cold", "cold warm"):
        _mark(recipe, "listed", values)
        session = Session(loaded, RunFolder(tmp_path / "run"), progress=SilentProgress())
        seen.append(digest(session.availability_inputs))
    assert len(set(seen)) == 3
