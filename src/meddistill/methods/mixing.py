"""One batch out of several teachers', each row of the teacher that was drawn for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from meddistill.objectives.base import both_towers
from meddistill.records import StudentOutputs, TeacherOutputs


@dataclass(frozen=True, kw_only=True)
class MixedRows:
    """What an objective with `mixes_teachers` is given; rows without a teacher are zero, outside `mask`."""

    student: StudentOutputs
    teacher: TeacherOutputs
    mask: Bool[Tensor, " batch"]


def mixed_rows(
    selected: Bool[Tensor, "batch teachers"],
    *,
    projected: Sequence[StudentOutputs],
    teachers: Sequence[TeacherOutputs],
) -> MixedRows:
    """Row b of student and teacher from the teacher t with selected[b, t], at most one a row.

    `projected` is the student in each teacher's space; all spaces have one dim. Raises TeacherError where a
    teacher lacks a tower.
    """
    columns = list(selected.unbind(dim=1))
    mask = selected.any(dim=1)
    student = replace(
        projected[0],
        image=_chosen([each.image for each in projected], columns),
        text=_chosen([each.text for each in projected], columns),
    )
    towers = [both_towers(each, "an objective with mixed teachers") for each in teachers]
    teacher = TeacherOutputs(
        available=mask,
        image=_chosen([image for image, _ in towers], columns),
        text=_chosen([text for _, text in towers], columns),
    )
    return MixedRows(student=student, teacher=teacher, mask=mask)


def _chosen(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    parts = [torch.where(keep[:, None], each, 0.0) for each, keep in zip(rows, columns, strict=True)]
    return torch.stack(parts).sum(dim=0)
