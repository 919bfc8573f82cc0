"""Suites and recipes with words that YAML may take for something else: the text, or how to make it one."""

from pathlib import Path
from typing import Any

import pytest

from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.objectives.config import PUBLISHED_GRADIENT_WEIGHT, GradientDistillationOptions
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import apply_overrides, read_yaml
from meddistill.standalone.named_models import ModelList

HEAD = "name: s\ntables:\n  train: {table: a.csv}\n  test: {table: b.csv}\ntasks:\n  - "


def task(folder: Path, text: str) -> Any:
    (folder / "suite.yaml").write_text(f"{HEAD}{{name: t, {text}}}\n")
    suite = validated(SuiteConfig, read_yaml(folder / "suite.yaml"), subject="s")
    return suite.tasks[0]


ZERO = "kind: zero_shot, table: test"
KNN = "kind: knn, train: train, test: test"
BAGS = "kind: bag_classification, train: train, test: test"
LABELS = "kind: zero_shot_multilabel, table: test"
VQA = "kind: vqa_zero_shot, test: test"
WORDS = ["010", "12:30", "1e3", "1.50"]


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        (f"{ZERO}, classes: {{no: without, yes: with}}", "classes", {"no": "without", "yes": "with"}),
        (f"{ZERO}, classes: [no, yes]", "classes", {"no": "no", "yes": "yes"}),
        (f"{ZERO}, classes: {{true: a, null: [off, 010]}}", "classes", {"true": "a", "null": ["off", "010"]}),
        (f"{ZERO}, classes: [010, 12:30, 1e3, 1.50]", "classes", {word: word for word in WORDS}),
        (f"{KNN}, where: {{a: yes, b: [on, 007]}}", "where", {"a": "yes", "b": ["on", "007"]}),
        (f"{VQA}, answers: [yes, no, 2020-01-02]", "answers", ["yes", "no", "2020-01-02"]),
        (f"{LABELS}, labels: {{yes: a, no: b}}", "labels", {"yes": "a", "no": "b"}),
        (f"{BAGS}, classes: [no, yes]", "classes", ["no", "yes"]),
        (f"{BAGS}, balanced: no", "balanced", False),
        (f"{BAGS}, epochs: 010", "epochs", 10),
    ],
)  # fmt: skip
def test_texts_are_those_that_were_written(tmp_path: Path, text: str, field: str, value: object) -> None:
    assert getattr(task(tmp_path, text), field) == value


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{ZERO}, classes: {{a: b, c: null}}", "classes.c"),
        (f"{ZERO}, classes: {{a: b, c: [d, false]}}", "classes.c.1"),
        (f"{KNN}, where: {{a: true}}", "where.a"),
        (f"{KNN}, where: {{a: [x, null]}}", "where.a.1"),
        (f"{VQA}, answers: [true, no]", "answers.0"),
        (f"{LABELS}, labels: [a, true]", "labels.1"),
    ],
)
def test_what_is_no_text_is_named_with_the_remedy_which_helps(tmp_path: Path, text: str, place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        task(tmp_path, text)
    (line,) = caught.value.mistakes
    assert line.startswith(f"`tasks.0.{place}` must be a valid string; got")
    assert "quotation marks" in line
    for word in ("true", "false", "null"):
        text = text.replace(f" {word}", f" '{word}'").replace(f"[{word}", f"['{word}'")
    task(tmp_path, text)


def test_a_list_of_classes_says_so_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"classes.*must be texts; got True.*quotation marks"):
        task(tmp_path, f"{ZERO}, classes: [true, a]")


def test_truth_values_may_be_called_yes(tmp_path: Path) -> None:
    classes = f"{ZERO}, classes: [no, yes], positive: yes, operating_points: [{{youden: yes}}]"
    assert task(tmp_path, classes).operating_points[0].youden is True
    options = apply_overrides({}, ["as_published=yes"])
    assert GradientDistillationOptions.model_validate(options).weight == PUBLISHED_GRADIENT_WEIGHT


def test_options_of_a_factory_are_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    entry = (
        "teachers: {a: {kind: python, factory: 'm:f', modalities: [1, ct], options: {width: 010, flag: no}}}"
    )
    path.write_text(entry)
    with pytest.raises(ConfigError, match=r"options\.flag.*true or false.*quotation marks"):
        validated(ModelList, read_yaml(path), subject="s")
    for mended, value in (("'no'", "no"), ("false", False)):
        path.write_text(entry.replace("flag: no", f"flag: {mended}"))
        teacher = validated(ModelList, read_yaml(path), subject="s").teachers["a"]
        assert teacher.options == {"width": 10, "flag": value}
        assert type(teacher.options["width"]) is int
        assert teacher.modalities == ("1", "ct")


def test_a_value_that_is_no_yaml_is_not_called_a_wrong_place() -> None:
    for wrong, words in (
        ("a=[1", "value of `a` must be YAML.*Quote it"),
        ("a.b.c=1", "`a.b.c` must name a place"),
    ):
        with pytest.raises(ConfigError, match=words):
            apply_overrides({"a": 1}, [wrong])
    assert apply_overrides({}, ["a='[1'"]) == {"a": "[1"}


def test_a_key_in_what_is_turned_off_turns_it_on() -> None:
    assert apply_overrides({"bundle": None}, ["bundle.formats=[onnx]"]) == {"bundle": {"formats": ["onnx"]}}
