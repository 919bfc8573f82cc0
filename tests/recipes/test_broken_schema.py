"""A mistake of the schema hides none of the recipe's tables and banks, and its remedies work."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from meddistill.errors import ConfigError
from meddistill.objectives.config import ClassVectorKLOptions
from meddistill.recipes.parts import load_for_check
from meddistill.recipes.schema import DataConfig
from recipe_data import write_yaml


def test_validation_table_and_banks_are_looked_at_beside_it(tmp_path: Path) -> None:
    recipe = {
        "nmae": "broken",
        "data": {"train": {"table": "train.csv"}, "validation": {"table": "validation.csv"}},
        "features": {"banks": {"words": "words.txt", "terms": {"table": "terms.csv", "text": "term"}}},
    }
    with pytest.raises(ConfigError) as refused:
        load_for_check(write_yaml(tmp_path / "recipe.yaml", recipe), overrides=(), smoke=False)
    told = str(refused.value)
    for absent in ("Did you mean `name`?", "train.csv", "validation.csv", "words.txt", "terms.csv"):
        assert absent in told
    assert told.endswith("is looked at once these are mended.")


def test_a_recipe_that_is_not_there_promises_no_further_look(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_for_check(tmp_path / "recipe.yaml", overrides=(), smoke=False)
    assert "once these are mended" not in str(refused.value)


def test_a_key_too_many_does_not_hide_the_one_that_is_missing() -> None:
    options = {"negatives": "queue", "bank": "words"}
    with pytest.raises(ValidationError, match=r"`bank` must be absent .*`queue_size` must be given"):
        ClassVectorKLOptions.model_validate(options)


def test_tables_that_are_decoded_in_two_ways_get_a_remedy_that_works() -> None:
    train, validation = {"table": "t.csv"}, {"table": "v.csv"}
    decode = {"decode": {"window": [40, 400]}}
    remedy = "Give both the same `decode`, or none"
    with pytest.raises(ValidationError, match=f"`validation.decode` must be that of `train`: .* {remedy}"):
        DataConfig.model_validate({"train": train, "validation": validation | decode})
    for given in ({}, decode):
        DataConfig.model_validate({"train": train | given, "validation": validation | given})
