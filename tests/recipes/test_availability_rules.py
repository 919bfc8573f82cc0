"""Rules of availability in a recipe: checked, obeyed by training, and known to it when they change."""

import csv
from pathlib import Path

import pytest

from meddistill.errors import ConfigError
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from recipe_data import TEACHERS, do_run

SHORT = ("stages.0.epochs=1", "stages.1.epochs=1", "evaluate=null", "bundle=null")


def _with_column(recipe: Path, cells: list[str]) -> None:
    """Give the table of pairs a column `clips` that repeats `cells`."""
    path = recipe.parent / "data" / "pairs.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "clips"])
        writer.writeheader()
        writer.writerows({**row, "clips": cells[place % len(cells)]} for place, row in enumerate(rows))


def test_training_obeys_the_rules_and_goes_anew_when_they_change(own_world: Path, tmp_path: Path) -> None:
    rules = "features.availability={agreement_quantile: 0.4, min_teachers: 1}"
    said = do_run(own_world, tmp_path / "run", *SHORT, rules, until="train").said
    told = [line for line in said if line.startswith("availability: ")]
    assert len(told) == 1
    left, sit_out = float(told[0].split()[1]), int(told[0].split("; ")[1].split()[0])
    assert 1 <= left < len(TEACHERS)
    assert sit_out > 0
    said = do_run(own_world, tmp_path / "run", *SHORT, rules, until="train").said
    assert not any("trained anew" in line for line in said)
    other = "features.availability={agreement_quantile: {general: 0.4}}"
    said = do_run(own_world, tmp_path / "run", *SHORT, other, until="train").said
    assert "features: done already" in said
    assert [line for line in said if "availability." in line and "trained anew" in line]


@pytest.mark.parametrize("source", ["stored", "online"])
def test_a_column_decides_for_both_sources(own_world: Path, tmp_path: Path, source: str) -> None:
    _with_column(own_world, ["|".join(TEACHERS), "general", ""])
    changes = ("features.availability={column: clips, min_teachers: 1}", f"features.source={source}")
    said = do_run(own_world, tmp_path / "run", *SHORT, *changes, until="train").said
    (told,) = [line for line in said if line.startswith("availability: ")]
    sit_out, rows = (int(part.split()[0]) for part in told.split("; ")[1].split(" of "))
    assert abs(sit_out - rows / 3) < rows / 6


def test_check_names_every_mistake(own_world: Path, tmp_path: Path) -> None:
    _with_column(own_world, ["radiology;genral", "microscopy"])

    def mistakes(*overrides: str) -> str:
        with pytest.raises(ConfigError) as caught:
            check_recipe(load_recipe(own_world, overrides=overrides), subject="recipe", out=tmp_path / "run")
        return str(caught.value)

    told = mistakes("features.availability.column=clips")
    assert "got 'genral' in rows" in told
    assert "Did you mean `general`?" in told
    assert "must name the teacher general" in told
    told = mistakes("features.availability={agreement_quantile: {radiologie: 0.2}}")
    assert "must name teachers of the recipe; got radiologie" in told
    assert "must be at most the 3 teachers" in mistakes("features.availability.min_teachers=4")
    told = mistakes("features.availability.agreement_quantile=0.2", "features.source=online")
    assert "must be absent for `source: online`" in told
    assert "less than 1" in mistakes("features.availability.agreement_quantile=1.0")


def test_a_misspelt_teacher_is_guessed(own_world: Path) -> None:
    rule = "features.availability={agreement_quantile: {radiologie: 0.2}}"
    with pytest.raises(ConfigError, match=r"got radiologie. Did you mean `radiology`\?") as caught:
        load_recipe(own_world, overrides=(rule,))
    assert "the recipe" not in caught.value.mistakes[0].partition("must")[0]
    assert caught.value.mistakes[0].endswith("`radiology`?")


def test_a_named_teacher_without_texts_cannot_agree(own_world: Path, tmp_path: Path) -> None:
    overrides = (
        "teachers.general.tower=image",
        "features.availability.agreement_quantile={general: 0.2}",
    )
    with pytest.raises(ConfigError, match=r"`general` must have image and text embeddings of one dim"):
        do_run(own_world, tmp_path / "run", *overrides, until="features")


def test_too_few_rows_are_told_before_anything_is_extracted(own_world: Path, tmp_path: Path) -> None:
    _with_column(own_world, ["|".join(TEACHERS), *[""] * 99])
    rules = "features.availability={column: clips, min_teachers: 1}"
    told = r"stage distill: `features.availability` must leave a batch of 40 rows at least; got \d+ of "
    with pytest.raises(ConfigError, match=told):
        do_run(own_world, tmp_path / "run", *SHORT, rules, until="train")
    assert not (tmp_path / "run" / "features").exists()
    with pytest.raises(ConfigError, match=told):
        check_recipe(load_recipe(own_world, overrides=(rules,)), subject="recipe", out=tmp_path / "run")
