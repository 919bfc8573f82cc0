"""Where student and teachers meet: heads on the student's side, fixed maps on the teachers'."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from meddistill.data.draws import derive_seed
from meddistill.errors import ConfigError
from meddistill.features.projections.config import (
    JointPCAConfig,
    LearnedHeadConfig,
    ProjectionConfig,
    SharedDimConfig,
)
from meddistill.features.projections.maps import LinearMap
from meddistill.methods.base import TeacherSpace
from meddistill.methods.by_teacher import ByTeacher
from meddistill.records import StudentOutputs, TeacherOutputs, map_embeddings
from meddistill.students.heads import TeacherHead


@final
class FixedMap(nn.Module):
    """y = W x + b of a teacher's embeddings, or of x/|x|₂; not trained, but part of every checkpoint."""

    weight: Float[Tensor, "dim teacher_dim"]
    bias: Float[Tensor, " dim"]

    def __init__(self, given: LinearMap) -> None:
        super().__init__()
        self.unit_inputs = given.unit_inputs
        self.register_buffer("weight", torch.from_numpy(given.weight.copy()))
        self.register_buffer("bias", torch.from_numpy(given.bias.copy()))

    def forward(self, outputs: TeacherOutputs) -> TeacherOutputs:
        """The teacher's outputs in the space of the map; rows where it is not available stay zero."""
        mapped: dict[str, Any] = {
            name: self._mapped(rows, available) for name, (rows, available) in outputs.towers.items()
        }
        return replace(outputs, **mapped)

    def vectors(self, rows: Float[Tensor, "batch teacher_dim"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of the teacher in the space of the map."""
        inputs = functional.normalize(rows, dim=-1) if self.unit_inputs else rows
        return functional.linear(inputs, self.weight.to(rows.dtype), self.bias.to(rows.dtype))

    def _mapped(
        self, rows: Float[Tensor, "batch teacher_dim"], available: Bool[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        return torch.where(available[:, None], self.vectors(rows), 0.0)


@final
class Spaces(nn.Module):
    """For each teacher the space in which the student is compared with it.

    `learned_head`: the teacher's own, with a learned head there. `linear_autoencoder`, `pca`: the space of
    the teacher's fixed map; a learned head leads there where its dim is not the student's. `phi_s`: that of
    the fixed map, always with a learned head, since one teacher's axes mean nothing to another's.
    `joint_pca`: that of the ensemble, the one teacher of `methods/ensemble.py`; a head only for another dim.
    """

    def __init__(
        self,
        config: ProjectionConfig,
        *,
        student_dim: int,
        teachers: Mapping[str, TeacherSpace],
        seed: int,
    ) -> None:
        """A head depends on `seed`, its teacher and dims alone.

        Raises ConfigError where a teacher lacks its map.
        """
        super().__init__()
        own = isinstance(config, LearnedHeadConfig | JointPCAConfig)
        maps = {} if own else fixed_maps(config, teachers)
        self.maps = ByTeacher({name: FixedMap(each) for name, each in maps.items()})
        dims = {name: _target_dim(config, space, student_dim) for name, space in teachers.items()}
        self.dims = dims
        shared = has_one_dim(config)
        self.heads = ByTeacher(
            {
                name: nn.Identity()
                if shared and dim == student_dim
                else _head(student_dim, dim, seed=derive_seed("head", seed, name))
                for name, dim in dims.items()
            }
        )

    def student(self, teacher: str, outputs: StudentOutputs) -> StudentOutputs:
        """The student's embeddings in the teacher's space."""
        return map_embeddings(outputs, self.heads[teacher])

    def target(self, teacher: str, outputs: TeacherOutputs) -> TeacherOutputs:
        """The teacher's outputs in that space."""
        if teacher not in self.maps:
            return outputs
        return cast("TeacherOutputs", self.maps[teacher](outputs))

    def vectors(self, teacher: str, rows: Float[Tensor, "batch teacher_dim"]) -> Float[Tensor, "batch dim"]:
        """Embeddings of the teacher in that space."""
        return cast("FixedMap", self.maps[teacher]).vectors(rows) if teacher in self.maps else rows


def has_one_dim(config: ProjectionConfig) -> bool:
    """Whether the spaces of all teachers have the same number of channels, whatever the teachers' own."""
    return isinstance(config, SharedDimConfig)


def _target_dim(config: ProjectionConfig, space: TeacherSpace, student_dim: int) -> int:
    if isinstance(config, SharedDimConfig):
        return config.dim or student_dim
    return space.dim


def _head(student_dim: int, dim: int, *, seed: int) -> TeacherHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TeacherHead(student_dim, dim)


def fixed_maps(config: ProjectionConfig, teachers: Mapping[str, TeacherSpace]) -> dict[str, LinearMap]:
    """The teachers' maps. Raises ConfigError naming every teacher without one."""
    mistakes = [
        f"teacher `{name}` must come with its fixed map for the projection {config.kind}; got none. "
        "Fit it with `features.projections.fit.fit_maps`, and give it as `target_map` of its space."
        for name, space in teachers.items()
        if space.target_map is None
    ]
    if mistakes:
        subject = "projection"
        raise ConfigError(subject, mistakes)
    return {name: space.target_map for name, space in teachers.items() if space.target_map is not None}
