"""What weightings need of a batch beyond its losses, and of teachers before the first."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.config import AttentionConfig, ConfidenceConfig, TorchJDConfig, WeightingConfig
from meddistill.balancing.context import TeacherQueries
from meddistill.balancing.torchjd_methods import missing_packages
from meddistill.methods.base import TeacherSpace
from meddistill.objectives.base import RowContext, both_towers
from meddistill.objectives.contrastive import Contrastive
from meddistill.records import StudentOutputs, TeacherOutputs


@torch.no_grad()
def own_losses(
    teachers: Sequence[TeacherOutputs],
    selected: Bool[Tensor, "batch teachers"],
    positives: Bool[Tensor, "batch batch"],
    scale: float | None,
) -> Float[Tensor, "batch teachers"]:
    """Each teacher's contrastive loss on its own embeddings, over the rows that it is selected for.

    Where it lacks a tower of such a row, the mean of the row's other teachers stands: neither sure nor in
    doubt. `scale` stands in for the teachers' own logit scales. Raises TeacherError where a teacher lacks a
    tower altogether.
    """
    contrastive = Contrastive()
    rows = []
    for outputs, column in zip(teachers, selected.unbind(dim=1), strict=True):
        image, text, mask = both_towers(outputs, column, objective="confidence")
        factor = scale if scale is not None else outputs.logit_scale
        as_student = StudentOutputs(image=image, text=text, logit_scale=image.new_full((), factor or 1.0))
        rows.append(contrastive(as_student, RowContext(mask=mask, positives=positives)))
    losses = torch.stack([each.total for each in rows], dim=1)
    counts = torch.stack([each.count for each in rows], dim=1)
    means = losses.sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(counts > 0, losses, means) * selected


def queries(
    teachers: Sequence[TeacherOutputs],
    selected: Bool[Tensor, "batch teachers"],
    positives: Bool[Tensor, "batch batch"],
) -> TeacherQueries:
    """What a weighting may ask of these teachers' outputs."""
    return TeacherQueries(
        own_losses=partial(own_losses, teachers, selected, positives),
        images=lambda: [outputs.image for outputs in teachers if outputs.image is not None],
    )


def unmet_by_weighting(config: WeightingConfig, teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that the weighting needs and that is not there."""
    if isinstance(config, TorchJDConfig):
        return [
            f"`weighting.method` {config.method} must have the package {package}; it is missing. "
            f"Install it: pip install {package}"
            for package in missing_packages(config.method)
        ]
    if isinstance(config, AttentionConfig) and config.keys == "pooled":
        return [
            f"teacher `{name}` must have image embeddings for pooled keys; got text alone. Leave the teacher "
            "out, or set `weighting.keys` to learned."
            for name, space in teachers.items()
            if "image" not in space.towers
        ]
    if not isinstance(config, ConfidenceConfig):
        return []
    mistakes = [
        f"teacher `{name}` must have image and text embeddings for the weighting confidence; got "
        f"{' and '.join(sorted(space.towers)) or 'none'}. Leave the teacher out or choose another weighting."
        for name, space in teachers.items()
        if len(space.towers) < 2
    ]
    mistakes += [
        f"teacher `{name}` must have a logit scale for the weighting confidence; got none. "
        "Set `teacher_scale`."
        for name, space in teachers.items()
        if config.teacher_scale is None and space.logit_scale is None
    ]
    return mistakes
