"""All mistakes of a schema at once, in plain words."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

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


_Pet = Annotated[_Cat | _Dog, Field(discriminator="kind")]


class _House(BaseModel):
    model_config = ConfigDict(extra="forbid")
    address: str
    rooms: int
    pet: _Pet | None = None
    walls: Literal["brick", "timber"] = "brick"
    owners: tuple[str, ...] = Field(default=("a", "b"), min_length=2, max_length=3)
    street: str = Field(default="x", min_length=1, pattern="^[a-z]*$")
    sheds: Mapping[str, tuple[_Pet, ...]] = {}


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
    assert line.startswith("`pet.lives` must be a key of kind dog; it belongs to kind cat.")
    assert "Take it out, or replace the whole: `pet={kind: dog}`." in line


def _told(**changes: Any) -> str:
    (line,) = _mistakes({"address": "x", "rooms": 1, **changes})
    return line


def test_a_key_is_compared_with_those_of_its_own_kind_alone() -> None:
    assert "Did you mean `lives`?" in _told(pet={"kind": "cat", "live": 3})
    assert "Did you mean" not in _told(pet={"kind": "dog", "live": 3})
    assert "Did you mean" not in _told(sheds={"one": [{"kind": "dog", "live": 3}]})
    assert "belongs to kind cat" in _told(sheds={"one": [{"kind": "dog", "lives": 3}]})


def test_a_kind_that_is_missing_is_told_as_a_key() -> None:
    assert _told(pet={"lives": 3}) == "`pet.kind` must be given; it is missing."


def test_a_misspelt_choice_is_guessed() -> None:
    assert "'brick' or 'timber'; got 'timbre'. Did you mean `timber`?" in _told(walls="timbre")
    assert "Did you mean" not in _told(walls="glass")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("owners", ["a"], "must have 2 or more; got 1"),
        ("owners", list("abcd"), "must have 3 at most; got 4"),
        ("street", "", "must have at least 1 character; got ''"),
        ("street", "A", "must match pattern '^[a-z]*$'; got 'A'"),
    ],
)
def test_sizes_and_patterns_are_told_without_names_of_types(key: str, value: object, rule: str) -> None:
    assert f"`{key}` {rule}." in _told(**{key: value})


def test_the_error_names_its_subject_and_the_count() -> None:
    with pytest.raises(ConfigError, match=r"house: 2 mistakes\n  `address`"):
        validated(_House, {}, subject="house")
