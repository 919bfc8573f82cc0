"""Records with every field: cut into parts and joined, moved, and changed in some of their rows."""

from collections.abc import Mapping
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from meddistill.imaging import Geometry
from meddistill.records import (
    Batch,
    StudentOutputs,
    TeacherOutputs,
    cut,
    join,
    map_differentiable,
    map_embeddings,
)
from meddistill.training.batches import on_device

ROWS = 7
META = torch.device("meta")


def numbers(*shape: int) -> Tensor:
    return torch.rand(ROWS, *shape)


def flags() -> Tensor:
    return torch.arange(ROWS) % 3 > 0


def whole_batch() -> Batch:
    return Batch(
        samples=torch.arange(ROWS),
        views=torch.arange(ROWS) % 2,
        rasters=numbers(4, 4, 3),
        tokens=torch.arange(ROWS)[:, None].expand(-1, 5),
        image_group=torch.arange(ROWS) // 2,
        text_group=torch.arange(ROWS) - 1,
        texts=tuple("abcdefg"),
        modalities=tuple("tuvwxyz"),
        groups=torch.arange(ROWS) % 3,
        teacher_rasters={
            Geometry(side, side, "squash", "bilinear"): numbers(side, side, 3) for side in (2, 3)
        },
    )


def student_outputs() -> StudentOutputs:
    return StudentOutputs(
        image=numbers(3),
        text=numbers(3),
        logit_scale=torch.tensor(2.0),
        passes={"masked": numbers(3)},
        captioned=flags(),
        groups=torch.arange(ROWS) % 2,
    )


def teacher_outputs() -> TeacherOutputs:
    return TeacherOutputs(
        image=numbers(3), text=numbers(4), image_available=flags(), text_available=~flags(), logit_scale=3.0
    )


RECORDS = [whole_batch(), student_outputs(), teacher_outputs()]


def contents(record) -> dict[str, object]:
    """Field → its value, those of a mapping one by one; every one is given."""
    found: dict[str, object] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        found |= (
            {f"{each.name} {key}": part for key, part in value.items()}
            if isinstance(value, Mapping)
            else {each.name: value}
        )
    assert all(value is not None and value != () for value in found.values() if not torch.is_tensor(value))
    return found


def same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return first == second


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: type(each).__name__)
def test_cut_takes_these_rows_of_every_field_and_join_puts_them_back(record) -> None:
    places = [slice(0, 3), slice(3, 4), slice(4, ROWS)]
    whole, parts = contents(record), [contents(cut(record, place)) for place in places]
    for name, value in whole.items():
        alone = isinstance(value, float) or (isinstance(value, Tensor) and value.ndim == 0)
        for place, part in zip(places, parts, strict=True):
            assert same(part[name], value if alone else value[place])
    joined = contents(join([cut(record, place) for place in places]))
    assert all(same(joined[name], value) for name, value in whole.items())


def test_a_batch_moves_but_for_what_is_looked_at_on_the_host() -> None:
    moved = contents(on_device(whole_batch(), META))
    here = {name for name, value in moved.items() if isinstance(value, Tensor) and value.device != META}
    assert here == {"samples", "views", "tokens"}
    assert len(moved) == len(contents(whole_batch()))


def test_changes_of_embeddings_leave_the_rest() -> None:
    before = student_outputs()
    for change, changed in (
        (map_embeddings, {"image", "text", "passes masked"}),
        (map_differentiable, {"image", "text", "passes masked", "logit_scale"}),
    ):
        after = contents(change(before, lambda each: each + 1))
        assert {name for name, value in contents(before).items() if after[name] is not value} == changed
