"""Distillation of embeddings: the student against what its teachers say of the same rows."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.balancing.build import build_weighting
from meddistill.balancing.evidence import Evidence
from meddistill.balancing.reduce import reduce, reduce_each
from meddistill.balancing.selection import build_selection
from meddistill.errors import ConfigError, TeacherError
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.config import EmbeddingConfig, missing_towers
from meddistill.methods.contrastive import StudentTerms
from meddistill.methods.step import StepLoss
from meddistill.methods.weighing import own_losses, weighting_lacks
from meddistill.objectives.base import Objective, RowContext, normalised, target_rows
from meddistill.objectives.registry import (
    STUDENT_OBJECTIVES,
    TEACHER_OBJECTIVES,
    build_student_objective,
    build_teacher_objective,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs
from meddistill.students.heads import TeacherHead

PerTeacher = Mapping[str, TeacherOutputs]


@final
class EmbeddingMethod(Method):
    """L = Σ_o λ_o · [Σ_bt w_bt·ℓ_obt / Σ_bt w_bt·n_obt] + Σ_own λ·L_own.

    Selection picks the teachers of each row; each objective o sees those rows of each teacher t alone and
    returns loss ℓ and denominator n; weighting gives w with Σ_t w_bt = 1; `balancing.reduce` is the one
    reduction. With random draw and {contrastive: 1, feature_mse: 50, interactive_contrastive: 1} this is
    stage 2 of MMKD-CLIP, but for a learnt head per teacher instead of a fixed projection, and negatives from
    the same teacher only.

    Each teacher has one linear head, shared by image and text, from the student's space to its own.
    """

    def __init__(
        self, config: EmbeddingConfig, *, student_dim: int, teachers: Mapping[str, TeacherSpace], seed: int
    ) -> None:
        """Raises ConfigError with everything that the teachers lack for `config`."""
        super().__init__()
        _check(config, teachers)
        self.teachers = tuple(teachers)
        chosen = config.objectives.chosen()
        self.weights = {name: options.weight for name, options in chosen.items()}
        self.selection = build_selection(config.selection)
        self.weighting = build_weighting(config.weighting, teachers=self.teachers)
        self.heads = nn.ModuleDict(
            {name: _head(student_dim, space, seed=seed) for name, space in teachers.items()}
        )
        self.terms = StudentTerms(
            {
                name: build_student_objective(name, chosen[name])
                for name in chosen
                if name in STUDENT_OBJECTIVES
            }
        )
        self.objectives = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {
                        teacher: build_teacher_objective(name, chosen[name], statistics=space.statistics)
                        for teacher, space in teachers.items()
                    }
                )
                for name in chosen
                if name in TEACHER_OBJECTIVES
            }
        )

    def loss(
        self,
        student: StudentOutputs,
        teachers: PerTeacher,
        *,
        positives: Bool[Tensor, "batch batch"],
        generator: torch.Generator,
    ) -> StepLoss:
        """The loss over the global batch. Raises TeacherError where a teacher's outputs are missing."""
        _refuse_missing(self.teachers, teachers)
        available = torch.stack([teachers[name].available for name in self.teachers], dim=1)
        selected = self.selection.select(available, generator)
        projected = {name: self._project(name, student) for name in self.teachers}
        totals: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for name, objectives in self.objectives.items():
            rows = [
                self._against(
                    cast("nn.ModuleDict", objectives)[teacher],
                    student=student,
                    projected=projected[teacher],
                    teacher=teachers[teacher],
                    context=RowContext(mask=selected[:, column], positives=positives),
                )
                for column, teacher in enumerate(self.teachers)
            ]
            totals[name] = torch.stack([row.total for row in rows], dim=1)
            counts[name] = torch.stack([row.count for row in rows], dim=1)
        losses = self._combined(totals, counts)
        kept = self.selection.thin(losses, selected, generator)
        evidence = Evidence(
            losses=losses,
            selected=kept,
            generator=generator,
            embeddings=student.embeddings,
            teacher_losses=partial(self._teacher_losses, totals, counts, kept),
            own_losses=partial(own_losses, [teachers[name] for name in self.teachers], selected, positives),
        )
        weights = self.weighting.weights(evidence)
        parts = {name: reduce(totals[name], counts[name], weights) for name in totals}
        parts |= self.terms(student, positives)
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        learnt = self.weighting.own_loss(evidence)
        if learnt is not None:
            parts["weighting"] = learnt
            total = total + learnt
        with torch.no_grad():
            agreement = [_agreement(projected[name], teachers[name]) for name in self.teachers]
        return StepLoss(
            total=total,
            parts={name: part.detach() for name, part in parts.items()},
            teacher_losses=_mean((weights.abs() * losses).sum(dim=0), weights.abs().sum(dim=0)).detach(),
            teacher_weights=_mean(weights.sum(dim=0), selected.any(dim=1).sum()).detach(),
            agreement=torch.stack(agreement),
            teacher_rows=available.sum(dim=0).to(losses.dtype),
        )

    def _project(self, teacher: str, student: StudentOutputs) -> StudentOutputs:
        head = self.heads[teacher]
        return StudentOutputs(
            image=head(student.image), text=head(student.text), logit_scale=student.logit_scale
        )

    @staticmethod
    def _against(
        objective: nn.Module,
        *,
        student: StudentOutputs,
        projected: StudentOutputs,
        teacher: TeacherOutputs,
        context: RowContext,
    ) -> RowLosses:
        own = cast("Objective", objective).space == "own"
        losses: RowLosses = objective(student if own else projected, teacher, context)
        return losses

    def _combined(
        self, totals: Mapping[str, Tensor], counts: Mapping[str, Tensor]
    ) -> Float[Tensor, "batch teachers"]:
        """Σ_o λ_o·ℓ_o/n_o per row and teacher, without gradient: what weightings and logs look at."""
        terms = [self.weights[name] * _mean(totals[name], counts[name]) for name in totals]
        return torch.stack(terms).sum(dim=0).detach()

    def _teacher_losses(
        self, totals: Mapping[str, Tensor], counts: Mapping[str, Tensor], kept: Bool[Tensor, "batch teachers"]
    ) -> Float[Tensor, " teachers"]:
        """Σ_o λ_o·ℓ̄_ot, each teacher's loss if it stood alone, with gradient."""
        terms = [self.weights[name] * reduce_each(totals[name], counts[name], kept) for name in totals]
        return torch.stack(terms).sum(dim=0)


def _head(student_dim: int, space: TeacherSpace, *, seed: int) -> TeacherHead:
    """A head that depends on the seed and the dims alone, so that one more teacher changes no other head."""
    teacher_dim = space.image_dim if space.image_dim is not None else space.text_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TeacherHead(student_dim, cast("int", teacher_dim))


def what_lacks(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that the teachers, looked at without their outputs, lack for `config`."""
    mistakes = missing_towers(config, {name: space.towers for name, space in teachers.items()})
    mistakes += [
        f"teacher `{name}` must have image and text embeddings of one dim; got {space.image_dim} and "
        f"{space.text_dim}. Use the outputs after its projections."
        for name, space in teachers.items()
        if len(space.towers) == 2 and space.image_dim != space.text_dim
    ]
    kl = config.objectives.similarity_kl
    if kl is not None and kl.teacher_scale is None:
        mistakes += [
            f"teacher `{name}` must have a logit scale for similarity_kl; got none. Set `teacher_scale`."
            for name, space in teachers.items()
            if space.logit_scale is None
        ]
    return mistakes + weighting_lacks(config.weighting, teachers)


def _check(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> None:
    mistakes = [] if teachers else ["`teachers` must name at least one for method embedding; got none."]
    mistakes += what_lacks(config, teachers)
    if mistakes:
        subject = "method embedding"
        raise ConfigError(subject, mistakes)


def _refuse_missing(names: Sequence[str], teachers: PerTeacher) -> None:
    absent = [name for name in names if name not in teachers]
    if absent:
        got = ", ".join(teachers) or "none"
        msg = f"`teachers` must have the outputs of {', '.join(absent)}; got {got}."
        raise TeacherError(msg)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    return total / torch.where(count > 0, count, 1.0)


def _agreement(student: StudentOutputs, teacher: TeacherOutputs) -> Float[Tensor, ""]:
    """Mean cosine over the available rows and the teacher's towers."""
    pairs = ((student.image, teacher.image), (student.text, teacher.text))
    cosines = [
        (normalised(ours) * normalised(target_rows(theirs, teacher.available))).sum(dim=-1)
        for ours, theirs in pairs
        if theirs is not None
    ]
    rows = torch.stack(cosines).mean(dim=0)
    return _mean(torch.where(teacher.available, rows, 0.0).sum(), teacher.available.sum())
