"""Cards: what makes two teachers the same, and how a difference is told."""

from typing import Any

import pytest

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
        "image_dim": 12,
        "text_dim": 12,
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
        {"image_dim": 13},
    ],
)
def test_what_decides_the_numbers_is_in_the_fingerprint(change: dict[str, Any]) -> None:
    assert card(**change).fingerprint != card().fingerprint
    (line,) = card().difference(card(**change))
    assert line.startswith(next(iter(change)) + ": ")


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


def test_difference_reads_well() -> None:
    lines = card().difference(card(weights_sha256="c" * 64, context_length=77))
    assert lines == ["context_length: 20 → 77", "weights_sha256: aaaaaaaaaaaa… → cccccccccccc…"]


def test_fingerprint_survives_json() -> None:
    assert TeacherCard.model_validate_json(card().model_dump_json()).fingerprint == card().fingerprint
