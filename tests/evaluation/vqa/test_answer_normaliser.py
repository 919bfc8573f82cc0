"""The normaliser of VQA v2, by pairs made by hand."""

import pytest

from meddistill.evaluation.tasks.vqa.answer_form import normalize_answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Yes", "yes"),
        ("  The left\tlung.\n", "left lung"),
        ("two", "2"),
        ("None", "0"),
        ("an x-ray", "x ray"),
        ("x - ray", "x ray"),
        ("mr - flair", "mr flair"),
        ("T2-weighted", "t2 weighted"),
        ("axial/coronal", "axial coronal"),
        ("axial, coronal", "axial coronal"),
        ("ct, t2-weighted", "ct t2 weighted"),
        ("1,200 ml", "1200 ml"),
        ("0.5 cm", "0.5 cm"),
        ("p.a.", "pa"),
        ("dont know", "don't know"),
        ("it isnt", "it isn't"),
        ("doctor's", "doctor's"),
        ("doctor\u2019s \u201cnote\u201d", "doctor's note"),
        ("ﬁbroma", "fibroma"),
        ("its well", "its well"),
        ("A", "a"),
        ("The", "the"),
        ("?", "?"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_by_hand(answer: str, expected: str) -> None:
    assert normalize_answer(answer) == expected


@pytest.mark.parametrize("answer", ["The Left Lung", "1,200 ml", "x-ray", "two", "dont", "A"])
def test_twice_is_once(answer: str) -> None:
    once = normalize_answer(answer)
    assert normalize_answer(once) == once


def test_a_mark_beside_a_space_takes_all_of_its_kind() -> None:
    """The rule of VQA v2 to the letter: one hyphen beside a space deletes the other one too."""
    assert normalize_answer("fluid-filled") == "fluid filled"
    assert normalize_answer("fluid-filled - left") == "fluidfilled left"
