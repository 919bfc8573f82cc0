"""What weightings need of a batch beyond its losses, and of teachers before the first."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.balancing.config import ConfidenceConfig, TorchJDConfig, WeightingConfig
from meddistill.balancing.torchjd_methods import missing_packages
from meddistill.methods.base import TeacherSpace
from meddistill.objectives.base import RowContext, both_towers, target_rows
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

    `scale` stands in for the teachers' own logit scales. Raises TeacherError where a teacher lacks a tower.
    """
    contrastive = Contrastive()
    columns = []
    for outputs, mask in zip(teachers, selected.unbind(dim=1), strict=True):
        image, text = both_towers(outputs, "confidence")
        kept = target_rows(image, mask)
        factor = scale if scale is not None else outputs.logit_scale
        as_student = StudentOutputs(
            image=kept, text=target_rows(text, mask), logit_scale=kept.new_full((), factor or 1.0)
        )
        columns.append(contrastive(as_student, RowContext(mask=mask, positives=positives)).total)
    return torch.stack(columns, dim=1)


def weighting_lacks(config: WeightingConfig, teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that the weighting needs and that is not there."""
    if isinstance(config, TorchJDConfig):
        return [
            f"`weighting.method` {config.method} must have the package {package}; it is missing. "
            f"Install it: pip install {package}"
            for package in missing_packages(config.method)
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
