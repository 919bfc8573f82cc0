"""Cards: what makes two teachers the same, and how a difference is told."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from meddistill.imaging import InputSpec
from meddistill.licences import KNOWN
from meddistill.teachers.card import TeacherCard

SPEC = InputSpec(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def card(**changes: Any) -> TeacherCard:
    content = {
        "id": "radiology",
        "kind": "open_clip",
        "source": "radiology",
        "library": "open_clip_torch 3.3.0",
        "weights_sha256": "a" * 64,
        "tokenizer_sha256": "b" * 64,
        "licence": KNOWN["MIT"],
        "input": SPEC,
        "dims": {"image": 12, "text": 12},
        "context_length": 20,
        "signals": frozenset({"image", "text"}),
        "parameters": 1000,
    }
    return TeacherCard(**(content | changes))


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "c" * 64},
        {"input": SPEC.model_copy(update={"mean": (0.4, 0.5, 0.5)})},
        {"input": SPEC.model_copy(update={"resize": "pad"})},
        {"centre_crop": (28, 28)},
        {"tokenizer_sha256": "c" * 64},
        {"context_length": 77},
        {"options": {"pooling": "mean"}},
        {"precision": "bfloat16"},
        {"kind": "timm"},
    ],
)
def test_what_decides_the_numbers_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    assert card(**change).fingerprint != card().fingerprint
    (line,) = card().difference(card(**change))
    assert line.startswith(next(iter(change)))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"source": "elsewhere"},
        {"revision": "main"},
        {"library": "open_clip_torch 4.0.0"},
        {"licence": KNOWN["unknown"]},
        {"modalities": ("ct",)},
        {"pretraining_data": ("PMC-15M",)},
    ],
)
def test_words_about_a_teacher_are_not(change: dict[str, Any]) -> None:
    assert card(**change).fingerprint == card().fingerprint
    assert card().difference(card(**change)) == []


def test_dims_are_in_the_fingerprint() -> None:
    wider = card(dims={"image": 13, "text": 12})
    assert wider.fingerprint != card().fingerprint
    assert card().difference(wider) == ["image_dim: 12 → 13"]


def test_difference_reads_well() -> None:
    lines = card().difference(card(weights_sha256="c" * 64, context_length=77))
    assert lines == ["context_length: 20 → 77", "weights_sha256: aaaaaaaaaaaa… → cccccccccccc…"]


def test_fingerprint_survives_json() -> None:
    assert TeacherCard.model_validate_json(card().model_dump_json()).fingerprint == card().fingerprint


def test_json_and_fingerprint_are_those_of_format_1() -> None:
    tokens = card(dims={"image": 12, "text": 12, "patches": 3})
    written = json.loads(tokens.model_dump_json())
    assert (written["image_dim"], written["text_dim"], written["patch_dim"]) == (12, 12, 3)
    assert "dims" not in written
    assert tokens.fingerprint == "ef436a68056a92f7abd7505bba0198adaa951f4efa47450ef6e1cb338c3ebe66"
    assert TeacherCard.model_validate(written) == tokens


def test_a_signal_that_is_not_there_has_no_dim() -> None:
    images = card(dims={"image": 12}, signals=frozenset({"image"}), context_length=None)
    written = json.loads(images.model_dump_json())
    assert (written["text_dim"], written["patch_dim"]) == (None, None)
    assert images.fingerprint == "929e69010f34eed6681dd9e413ff4b291b63c69c7b34d281d09e8fd89759cf8d"
    assert TeacherCard.model_validate(written).dims == {"image": 12}


@pytest.mark.parametrize("wrong", [{"image_dim": "wide"}, {"dims": {"image": 12}}, {"hidden_dim": 12}])
def test_other_keys_and_values_of_dims_are_refused(wrong: dict[str, Any]) -> None:
    written = {**json.loads(card().model_dump_json()), **wrong}
    with pytest.raises(ValidationError):
        TeacherCard.model_validate(written)
