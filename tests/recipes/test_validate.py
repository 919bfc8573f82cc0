"""All mistakes of a schema at once, in plain words."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from meddistill.errors import ConfigError
from meddistill.recipes.validate import validated


class _Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["cat"]
    lives: int = Field(default=9, gt=0)


class _Dog(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["dog"]


class _House(BaseModel):
    model_config = ConfigDict(extra="forbid")
    address: str
    rooms: int
    pet: Annotated[_Cat | _Dog, Field(discriminator="kind")] | None = None


def _mistakes(content: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validated(_House, content, subject="house")
    return list(error.value.mistakes)


def test_every_mistake_has_its_line() -> None:
    lines = _mistakes({"adress": "x", "rooms": "many", "pet": {"kind": "cat", "lives": 0}})
    assert lines == [
        "`address` must be given; it is missing.",
        "`rooms` must be a valid integer, unable to parse string as an integer; got 'many'.",
        "`pet.lives` must be greater than 0; got 0.",
        "`adress` must be a known key. Did you mean `address`?",
    ]


def test_a_misspelt_kind_is_guessed() -> None:
    (line,) = _mistakes({"address": "x", "rooms": 1, "pet": {"kind": "catt"}})
    assert line == "`pet.kind` must be one of 'cat', 'dog'; got 'catt'. Did you mean `cat`?"


def test_a_key_of_another_kind_is_told_as_such() -> None:
    (line,) = _mistakes({"address": "x", "rooms": 1, "pet": {"kind": "dog", "lives": 3}})
    assert line == "`pet.lives` must be a key of kind dog; it belongs to another. Leave it out."


def test_the_error_names_its_subject_and_the_count() -> None:
    with pytest.raises(ConfigError, match=r"house: 2 mistakes\n  `address`"):
        validated(_House, {}, subject="house")
