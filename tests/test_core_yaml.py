"""YAML's core schema: texts stay as they were written, numbers know how, what is dumped comes back."""

import pytest
import yaml

from meddistill.core_yaml import bare_word_in, dump_yaml, is_true, load_yaml

TEXTS = ["yes", "No", "ON", "off", "y", "12:30", "1:20:30", "2020-01-02", "1_000", "=", ".", "0b11", "-"]
NUMBERS = {
    "010": 10, "007": 7, "0o17": 15, "0x1F": 31, "+5": 5, "1e3": 1000.0, "1.50": 1.5, "1.": 1.0, ".5": 0.5,
    "1e-4": 1e-4, "12": 12, "-0.25": -0.25, ".inf": float("inf"),
}  # fmt: skip


@pytest.mark.parametrize("word", TEXTS)
def test_words_that_yaml_1_1_takes_for_something_else_are_texts(word):
    assert load_yaml(f"{{a: {word}, {word}: b, c: [{word}]}}") == {"a": word, word: "b", "c": [word]}


@pytest.mark.parametrize(("written", "number"), NUMBERS.items())
def test_numbers_are_numbers_and_know_their_text(written, number):
    (found,) = load_yaml(f"[{written}]")
    assert found == number
    assert isinstance(found, type(number))
    assert str(found) == written
    assert load_yaml(f"{written}: x") == {written: "x"}


def test_keys_are_texts_and_stand_once():
    assert load_yaml("{true: 1, null: 2, ~: 3, 010: 4, 10: 5, 1.0: 6}") == {
        "true": 1, "null": 2, "~": 3, "010": 4, "10": 5, "1.0": 6,
    }  # fmt: skip
    for twice in ("a: 1\na: 2", "yes: 1\n'yes': 2", "10: 1\n'10': 2"):
        with pytest.raises(yaml.YAMLError, match="must stand once"):
            load_yaml(twice)
    assert load_yaml("base: &b {x: 1, y: 2}\nown: {<<: *b, y: 3}")["own"] == {"x": 1, "y": 3}


def test_what_is_dumped_comes_back_in_either_version_of_yaml():
    texts = [*TEXTS, *NUMBERS, "null", "~", "", "true", "<<", "- a", "r\udcf8ntgen", "ü", "0o8"]
    content = {"list": texts, **{text: text for text in texts}}
    text = dump_yaml(content)
    assert load_yaml(text) == content
    assert yaml.safe_load(text) == content
    written = load_yaml("[010, 1.50, yes, 1e3]")
    assert [str(each) for each in load_yaml(dump_yaml(written))] == ["010", "1.50", "yes", "1e3"]


def test_bare_words_are_found_where_a_truth_value_may_be_meant():
    assert bare_word_in(load_yaml("{a: 1, b: {c: [x, no]}}")) == "b.c.1"
    assert bare_word_in(load_yaml("{a: 'no', b: {c: [x, true]}}")) is None
    assert [is_true(load_yaml(word)) for word in ("yes", "On", "true")] == [True, True, True]
    assert [is_true(load_yaml(word)) for word in ("no", "'yes'", "false")] == ["no", "yes", False]


@pytest.mark.parametrize(
    "text",
    ["a: &a [*a]", "a: &a {b: *a}", "a: !!int abc", "a: !!float abc", "a: !!bool maybe", "a: !!timestamp x",
     f"a: {'9' * 5000}", "a: " + "[" * 3000 + "]" * 3000],
    ids=["list in itself", "mapping in itself", "int", "float", "bool", "timestamp", "long", "deep"],
)  # fmt: skip
def test_what_cannot_be_read_is_a_mistake_of_the_file(text):
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)


def test_two_arrows_that_merge_nothing_are_a_text():
    assert load_yaml("a: [<<]") == {"a": ["<<"]}
