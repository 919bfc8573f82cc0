"""What every method is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.features.projections.maps import LinearMap
from meddistill.methods.step import StepLoss
from meddistill.objectives.base import Objective, TowerStatistics
from meddistill.objectives.needs import HiddenPatches
from meddistill.records import StudentOutputs, TeacherOutputs
from meddistill.signals import TOWERS, Signal, Tower
from meddistill.teachers.card import TeacherCard


@dataclass(frozen=True, kw_only=True)
class TeacherSpace:
    """What a method must know of a teacher before it sees its outputs. `dims` as on its card.

    `logit_scale` as on its card; `statistics` per tower, for objectives that standardise or whiten;
    `target_map`, for projections that are fitted before the stage; `banks`, its features of the texts of each
    bank, for objectives that compare with one.
    """

    dims: Mapping[Signal, int]
    logit_scale: float | None = None
    statistics: Mapping[Tower, TowerStatistics] = field(default_factory=dict)
    target_map: LinearMap | None = None
    banks: Mapping[str, Float[Tensor, "texts text_dim"]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        card: TeacherCard,
        *,
        statistics: Mapping[Tower, TowerStatistics] | None = None,
        target_map: LinearMap | None = None,
        banks: Mapping[str, Float[Tensor, "texts text_dim"]] | None = None,
    ) -> "TeacherSpace":
        """What a teacher's card says."""
        return cls(
            dims=card.dims,
            logit_scale=card.logit_scale,
            statistics=statistics or {},
            target_map=target_map,
            banks=banks or {},
        )

    @property
    def dim(self) -> int:
        """Of the images, or of the texts where it embeds no images. Only of a teacher with a tower."""
        return next(self.dims[tower] for tower in TOWERS if tower in self.dims)

    @property
    def towers(self) -> frozenset[Tower]:
        """The towers that the teacher has."""
        return frozenset(tower for tower in TOWERS if tower in self.dims)


class Method(nn.Module, ABC):
    """A training step: what is computed from the embeddings of a global batch, with which heads.

    A method knows nothing of epochs, devices, processes or files. Its parameters (heads) are trained with the
    student and thrown away after it.

    `passes` says what is hidden from the student in each further pass of `StudentOutputs.passes`.
    """

    teachers: tuple[str, ...]
    passes: Mapping[str, HiddenPatches] = MappingProxyType({})

    @abstractmethod
    def loss(
        self,
        student: StudentOutputs,
        teachers: Mapping[str, TeacherOutputs],
        *,
        positives: Bool[Tensor, "batch batch"],
        generator: torch.Generator,
    ) -> StepLoss:
        """The loss of the *global* batch, rows in the same order in all arguments.

        `positives` as `records.positives` gives them; `generator`, on the CPU and seeded by (seed, step), is
        for random selection.
        """

    def after_update(self) -> None:
        """Bring parameters back into their range; called after every update."""
        for module in self.modules():
            if isinstance(module, Objective):
                module.after_update()
