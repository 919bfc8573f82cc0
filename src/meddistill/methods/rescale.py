"""One meaning for the weight of a feature objective in every space."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.balancing.reduce import reduce
from meddistill.balancing.weighting import normalize_rows
from meddistill.features.projections.config import LearnedHeadConfig
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.spaces import Spaces
from meddistill.objectives.base import Objective, RowContext
from meddistill.records import StudentOutputs, TeacherOutputs, map_embeddings


def rescaled(config: EmbeddingConfig) -> tuple[str, ...]:
    """The objectives whose weights are rescaled: none with learned heads, which are the reference."""
    if config.rescale == "none" or isinstance(config.projection, LearnedHeadConfig):
        return ()
    return tuple(name for name, options in config.objectives.chosen().items() if options.is_distance)


@final
class EqualGradient(nn.Module):
    """λ_o' = λ_o · |g_o(learned head)|₂ / |g_o(this projection)|₂ for every feature objective o.

    g_o is the gradient of objective o at the student's image and text embeddings of one global batch, over
    the rows and teachers that the selection picked, each row's teachers weighted equally. The reference is
    the same objective against the teachers' own spaces through fresh learned heads, which depend on the
    stage's seed. So a weight of 50 pulls as hard on the student in the first step whatever the projection,
    and with learned heads the factor is 1 and nothing is measured.

    Measured on the stage's first global batch, the same in every process, and kept in the checkpoint: a stage
    that goes on has the factors that it began with. Where one of the two gradients is zero, as in a batch
    without a row for any teacher, the factor is 1 and the next batch is asked. Whether all are found stands
    on the device: it is waited for after the first batch, and from then on with a checkpoint alone.
    """

    factors: Float[Tensor, " objectives"]

    def __init__(self, names: Sequence[str], *, reference: Callable[[], Spaces]) -> None:
        super().__init__()
        self.names = tuple(names)
        self._reference = reference
        self.measured = not self.names
        self.register_buffer("factors", torch.full((len(self.names),), torch.nan), persistent=bool(names))
        self._looked = False
        self.register_load_state_dict_post_hook(_look)
        self.register_state_dict_pre_hook(_look)

    def factor(self, name: str) -> Tensor | float:
        """What the weight of an objective is multiplied by, on the device; 1 for those without one."""
        return self.factors[self.names.index(name)].nan_to_num(1.0) if name in self.names else 1.0

    def measure(
        self,
        spaces: Spaces,
        objectives: Mapping[str, Mapping[str, Objective]],
        student: StudentOutputs,
        *,
        teachers: Mapping[str, TeacherOutputs],
        selected: Bool[Tensor, "batch teachers"],
        positives: Bool[Tensor, "batch batch"],
    ) -> None:
        """Find the factors on this batch; `objectives` by name and teacher. Nothing once they are known."""
        if self.measured:
            return
        batch = _Batch(student, teachers, selected, positives)
        reference = self._reference().to(student.image.device, student.image.dtype)
        for number, name in enumerate(self.names):
            here = batch.gradient_norm(objectives[name], spaces)
            there = batch.gradient_norm(objectives[name], reference)
            known = self.factors[number].isfinite()
            ratios = torch.where((here > 0) & (there > 0), there / here, torch.nan)
            self.factors[number] = torch.where(known, self.factors[number], ratios)
        if not self._looked or self.factors.device.type == "cpu":
            _look(self)
        self._looked = True


class _Batch:
    """A global batch whose embeddings are leaves of a graph of their own."""

    def __init__(
        self,
        student: StudentOutputs,
        teachers: Mapping[str, TeacherOutputs],
        selected: Bool[Tensor, "batch teachers"],
        positives: Bool[Tensor, "batch batch"],
    ) -> None:
        leaves = map_embeddings(student, lambda rows: rows.detach().requires_grad_())
        self.leaves = tuple(leaves.embeddings().values())
        self.student = replace(leaves, logit_scale=student.logit_scale.detach())
        self.teachers = teachers
        self.selected = selected
        self.contexts = [RowContext(mask=mask, positives=positives) for mask in selected.unbind(dim=1)]

    @torch.enable_grad()
    def gradient_norm(self, objectives: Mapping[str, Objective], spaces: Spaces) -> Float[Tensor, ""]:
        rows = [
            objectives[name](spaces.student(name, self.student), spaces.target(name, outputs), context)
            for (name, outputs), context in zip(self.teachers.items(), self.contexts, strict=True)
        ]
        totals = torch.stack([row.total for row in rows], dim=1)
        counts = torch.stack([row.count for row in rows], dim=1)
        loss = reduce(totals, counts, normalize_rows(self.selected.to(totals.dtype)))
        gradients = torch.autograd.grad(loss, self.leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def _look(module: nn.Module, *_: Any) -> None:
    """Whether all factors are found; also before a checkpoint is taken, and after one was loaded."""
    rescale = cast("EqualGradient", module)
    rescale.measured = bool(rescale.factors.isfinite().all())
