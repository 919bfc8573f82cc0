"""Contrastive pretraining: the student alone."""

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from meddistill.balancing.reduce import reduce
from meddistill.methods.base import Method
from meddistill.methods.config import ContrastiveConfig
from meddistill.methods.step import StepLoss
from meddistill.objectives.base import RowContext, StudentObjective
from meddistill.objectives.registry import build_student_objective
from meddistill.records import StudentOutputs, TeacherOutputs


class StudentTerms(nn.Module):
    """The objectives of the student alone, each reduced over all rows with a caption."""

    def __init__(self, objectives: Mapping[str, StudentObjective]) -> None:
        super().__init__()
        self.objectives = nn.ModuleDict(objectives)

    def forward(self, student: StudentOutputs, positives: Bool[Tensor, "batch batch"]) -> dict[str, Tensor]:
        """The losses by name."""
        everyone = positives.new_ones(len(positives))
        mask = everyone if student.captioned is None else student.captioned
        context = RowContext(mask=mask, positives=positives)
        parts = {}
        for name, objective in self.objectives.items():
            rows = objective(student, context)
            ones = torch.ones_like(rows.count[:, None])
            parts[name] = reduce(rows.total[:, None], rows.count[:, None], ones)
        return parts


@final
class ContrastiveMethod(Method):
    """L = Σ_objectives λ·L; as a rule CLIP's loss with equal captions as positives of one another."""

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.teachers = ()
        chosen = config.objectives.chosen()
        self.weights = {name: options.weight for name, options in chosen.items()}
        self.terms = StudentTerms(
            {name: build_student_objective(name, options) for name, options in chosen.items()}
        )

    def loss(
        self,
        student: StudentOutputs,
        teachers: Mapping[str, TeacherOutputs],  # noqa: ARG002
        *,
        positives: Bool[Tensor, "batch batch"],
        generator: torch.Generator,  # noqa: ARG002
    ) -> StepLoss:
        """The weighted sum of the student's own objectives; teachers are not looked at."""
        parts = self.terms(student, positives)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        nothing = total.new_zeros(0)
        return StepLoss(
            total=total,
            parts={name: part.detach() for name, part in parts.items()},
            teacher_losses=nothing,
            teacher_weights=nothing,
            agreement=nothing,
            agreement_rows=nothing,
        )
