"""Distillation from an ensemble: all teachers of a row, in the space that they share, are one teacher."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.config import AvailableConfig
from meddistill.balancing.selection import build_selection
from meddistill.features.projections.config import JointPCAConfig
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.by_teacher import ByTeacher
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.embedding import EmbeddingMethod, agreement, check, refuse_missing
from meddistill.methods.spaces import FixedMap, fixed_maps
from meddistill.methods.step import StepLoss
from meddistill.records import StudentOutputs, TeacherOutputs
from meddistill.signals import TOWERS

NAME: Final = "ensemble"


@final
class EnsembleMethod(Method):
    """`EmbeddingMethod` against one teacher, the ensemble of those that the selection picks for a row.

        z_i = 1/√n_i · Σ_t∈S_i W_t x̂_ti,

    x̂ a teacher's embedding at unit length, S_i the n_i teachers selected for row i, W_t the maps of the
    projection `joint_pca`. Cosines of z are the mean of the teachers' own cosines, as far as the map's
    channels hold it, so the student learns what the ensemble says of a pair, in its own space, and every
    objective sees one target a row. The ensemble's logit scale is the geometric mean of its members'; it has
    none where a member has none.

    In the logs each member has the ensemble's loss, its share 1/n_i of the rows as weight, and its own
    agreement, the cosine of the student with W_t x̂_t. Not part of MMKD-CLIP, whose teachers' spaces have
    nothing in common.
    """

    def __init__(
        self, config: EmbeddingConfig, *, student_dim: int, teachers: Mapping[str, TeacherSpace], seed: int
    ) -> None:
        """Raises ConfigError with everything that the teachers lack for `config`."""
        super().__init__()
        check(config, teachers)
        self.teachers = tuple(teachers)
        self.selection = build_selection(config.selection)
        maps = fixed_maps(config.projection, teachers)
        self.maps = ByTeacher({name: FixedMap(each) for name, each in maps.items()})
        self.logit_scale = _geometric_mean([space.logit_scale for space in teachers.values()])
        dim = cast("JointPCAConfig", config.projection).dim or student_dim
        towers = [tower for tower in TOWERS if any(tower in each.towers for each in teachers.values())]
        space = TeacherSpace(dims=dict.fromkeys(towers, dim), logit_scale=self.logit_scale)
        alone = config.model_copy(update={"selection": AvailableConfig()})
        self.method = EmbeddingMethod(alone, student_dim=student_dim, teachers={NAME: space}, seed=seed)
        self.passes = self.method.passes

    def loss(
        self,
        student: StudentOutputs,
        teachers: Mapping[str, TeacherOutputs],
        *,
        positives: Bool[Tensor, "batch batch"],
        generator: torch.Generator,
    ) -> StepLoss:
        """The loss over the global batch. Raises TeacherError where a teacher's outputs are missing."""
        refuse_missing(self.teachers, teachers)
        members = [self.maps[name](teachers[name]) for name in self.teachers]
        available = torch.stack([each.available for each in members], dim=1)
        selected = self.selection.select(available, generator)
        ensemble = combine_members(members, selected, logit_scale=self.logit_scale)
        step = self.method.loss(student, {NAME: ensemble}, positives=positives, generator=generator)
        with torch.no_grad():
            agreements, rows_of_members = self._agreement(student, members)
            shares = selected / selected.sum(dim=1, keepdim=True).clamp(min=1)
            rows = selected.any(dim=1).sum().clamp(min=1)
            return replace(
                step,
                teacher_losses=step.teacher_losses.expand(len(members)),
                teacher_weights=(shares.sum(dim=0) / rows).to(step.teacher_weights.dtype),
                agreement=agreements,
                agreement_rows=rows_of_members,
            )

    def _agreement(
        self, student: StudentOutputs, members: Sequence[TeacherOutputs]
    ) -> tuple[Float[Tensor, " teachers"], Float[Tensor, " teachers"]]:
        """Of each member, and over how many rows."""
        if NAME not in self.method.heads:
            nothing = student.image.new_zeros(len(members))
            return nothing, nothing
        projected = self.method.spaces.student(NAME, student)
        rows = torch.stack([each.available.sum() for each in members])
        agreements = torch.stack(
            [agreement(projected, each, objective=self.method.leading_objective(NAME)) for each in members]
        )
        return agreements, rows.to(agreements.dtype)


def combine_members(
    members: Sequence[TeacherOutputs],
    selected: Bool[Tensor, "batch teachers"],
    *,
    logit_scale: float | None = None,
) -> TeacherOutputs:
    """The sum of the selected members' embeddings over √n of them, by tower.

    A member that lacks a tower of a row adds nothing to it there, and n counts those that have it; where n is
    0 the tower is not available.
    """
    fields: dict[str, Tensor] = {}
    columns = selected.unbind(dim=1)
    for tower in ("image", "text"):
        parts = [
            (each.towers[tower][0], each.towers[tower][1] & column)
            for each, column in zip(members, columns, strict=True)
            if tower in each.towers
        ]
        if parts:
            total = torch.stack([torch.where(there[:, None], rows, 0.0) for rows, there in parts]).sum(dim=0)
            count = torch.stack([there for _, there in parts]).sum(dim=0)
            fields[tower] = total / count.clamp(min=1).sqrt()[:, None].to(total.dtype)
            fields[f"{tower}_available"] = count > 0
    return TeacherOutputs(**fields, logit_scale=logit_scale)


def _geometric_mean(scales: Sequence[float | None]) -> float | None:
    there = [scale for scale in scales if scale is not None]
    if len(there) < len(scales):
        return None
    return math.exp(sum(map(math.log, there)) / len(there))
