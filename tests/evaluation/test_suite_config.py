"""The suite's schema: what it accepts, what it refuses and in which words."""

from typing import Any

import pytest
from colour_world import suite, table
from pydantic import TypeAdapter, ValidationError

from meddistill.evaluation.engine.suite_config import AnyTaskConfig, SuiteConfig
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig

ZERO = {"name": "a", "kind": "zero_shot", "table": "test", "classes": {"ct": "CT", "mri": "MRI"}}


def _zero(**more: Any) -> ZeroShotConfig:
    return ZeroShotConfig.model_validate({**ZERO, **more})


def test_phrases_fill_templates_and_lists_stand_as_they_are() -> None:
    config = _zero(
        classes={"ct": "CT {scan}", "mri": ["magnetic resonance", "MRI"]}, templates=["a {} image", "{c}."]
    )
    assert config.prompts() == {
        "ct": ("a CT {scan} image", "CT {scan}."),
        "mri": ("magnetic resonance", "MRI"),
    }


def test_a_list_of_classes_names_itself() -> None:
    assert _zero(classes=["ct", "mri"]).prompts() == {"ct": ("ct",), "mri": ("mri",)}


def test_the_checksum_follows_prompts_and_labels() -> None:
    assert _zero().prompts_sha256() == _zero(name="b", templates=["{c}"]).prompts_sha256()
    assert _zero().prompts_sha256() != _zero(templates=["a {}"]).prompts_sha256()
    assert _zero().prompts_sha256() != _zero(classes={"CT": "CT", "mri": "MRI"}).prompts_sha256()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"templates": ["an image"]}, "one `{}` or `{c}`"),
        ({"templates": ["{} and {c}"]}, "one `{}` or `{c}`"),
        ({"classes": {"ct": "CT"}}, "at least 2"),
        ({"classes": {"ct": "CT", "mri": []}}, "classes.mri"),
        ({"classes": {"ct": "CT", "mri": [" "]}}, "not blank"),
        ({"name": "a/b"}, "pattern"),
        ({"k": 3}, "Extra inputs"),
    ],
)
def test_refused_zero_shot_tasks(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _zero(**change)


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([ZERO, {**ZERO, "name": "A"}], "`a` more than once"),
        ([{**ZERO, "table": "tests"}], "`table` of task `a` must be one of train, test; got `tests`"),
        ([{"name": "r", "kind": "retrieval", "table": "train"}], "`text` of table `train`"),
        ([{**ZERO, "kind": "zeroshot"}], "zero_shot"),
        ([], "at least 1"),
    ],
)
def test_refused_suites(tasks: list[Any], message: str) -> None:
    tables = {"train": table("train", text=None), "test": table("test")}
    with pytest.raises(ValidationError, match=message):
        SuiteConfig.model_validate({"name": "s", "tables": tables, "tasks": tasks})


def test_every_kind_names_its_tables_and_columns() -> None:
    tasks = {task.kind: task for task in suite().tasks}
    assert set(tasks) <= set(TypeAdapter(AnyTaskConfig).json_schema()["discriminator"]["mapping"])
    assert tasks["zero_shot"].tables() == {"table": "test"}
    assert tasks["linear_probe"].tables() == {"train": "train", "validation": "val", "test": "test"}
    assert tasks["zero_shot"].columns() == {"label", "task"}
    assert tasks["retrieval"].columns() == frozenset()


def test_fractions_stand_from_the_largest() -> None:
    probe = {"name": "p", "kind": "linear_probe", "train": "t", "test": "e", "fractions": [0.1, 1]}
    assert TypeAdapter(AnyTaskConfig).validate_python(probe).fractions == [1.0, 0.1]
    with pytest.raises(ValidationError, match="differ"):
        TypeAdapter(AnyTaskConfig).validate_python({**probe, "fractions": [1, 1]})
