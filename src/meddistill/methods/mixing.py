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
    """What an objective that mixes teachers is given.

    Rows without both towers of a teacher are zero, and outside `mask`.
    """

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
    towers = [
        both_towers(each, column, objective="an objective with mixed teachers")
        for each, column in zip(teachers, selected.unbind(dim=1), strict=True)
    ]
    columns = [both for _, _, both in towers]
    mask = torch.stack(columns).any(dim=0)
    student = replace(
        projected[0],
        image=_chosen([each.image for each in projected], columns),
        text=_chosen([each.text for each in projected], columns),
    )
    teacher = TeacherOutputs.of_rows(
        mask,
        image=_chosen([image for image, _, _ in towers], columns),
        text=_chosen([text for _, text, _ in towers], columns),
    )
    return MixedRows(student=student, teacher=teacher, mask=mask)


def _chosen(rows: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    parts = [torch.where(keep[:, None], each, 0.0) for each, keep in zip(rows, columns, strict=True)]
    return torch.stack(parts).sum(dim=0)
