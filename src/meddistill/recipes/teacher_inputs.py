"""What in a recipe's teachers decides what is made of them."""

from collections.abc import Mapping
from typing import Any

from meddistill.teachers.card import TeacherCard


def teacher_inputs(cards: Mapping[str, TeacherCard]) -> dict[str, Any]:
    """What in these teachers decides what is made of them."""
    return {
        name: {"fingerprint": card.fingerprint, "modalities": card.modalities, **stated_scale(card)}
        for name, card in cards.items()
    }


def stated_scale(card: TeacherCard) -> dict[str, float]:
    """The logit scale of a graph, which the recipe states; those of others are among their weights."""
    return {} if card.kind != "onnx" or card.logit_scale is None else {"logit_scale": card.logit_scale}
