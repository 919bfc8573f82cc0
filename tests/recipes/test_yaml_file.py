"""Recipes as text: duplicate keys, overrides, the smoke dial."""

from pathlib import Path

import pytest

from meddistill.errors import ConfigError
from meddistill.recipes.yaml_file import apply_overrides, apply_smoke, read_yaml


def _write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_mapping_is_read(tmp_path: Path) -> None:
    assert read_yaml(_write(tmp_path, "name: a\nstages: [{epochs: 2}]")) == {
        "name": "a",
        "stages": [{"epochs": 2}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "`a` must stand once in a mapping.*line 2"),
        ("a: [1", "must be YAML.*line"),
        ("- 1", "must hold a mapping of keys; got list"),
        ("x: !!python/object/apply:os.system ['true']", "must be YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_yaml(_write(tmp_path, text))


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must exist"):
        read_yaml(tmp_path / "absent.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="must be readable UTF-8 text; got other bytes"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="must be readable UTF-8 text; got a folder"):
        read_yaml(tmp_path)


def test_overrides_reach_into_lists_and_leave_the_original() -> None:
    content = {"stages": [{"epochs": 2}], "features": {"precision": "float16"}}
    changed = apply_overrides(content, ["stages.0.epochs=5", "features.precision=float32", "new.key=[1, 2]"])
    assert changed == {
        "stages": [{"epochs": 5}],
        "features": {"precision": "float32"},
        "new": {"key": [1, 2]},
    }
    assert content["stages"][0]["epochs"] == 2


def test_all_bad_overrides_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        apply_overrides({"stages": [{}]}, ["nothing", "stages.7.epochs=1", "stages.x=1"])
    assert len(error.value.mistakes) == 3


def test_smoke_turns_the_recipes_own_dial() -> None:
    content = {"stages": [{"epochs": 20}], "smoke": {"stages.0.epochs": 1}}
    assert apply_smoke(content)["stages"] == [{"epochs": 1}]
