"""What a weighting may look at, with numbers that a test chooses."""

from collections.abc import Sequence

import torch
from torch import Tensor

from meddistill.balancing.context import BalancingContext, TeacherQueries
from toy_training import DEVICE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mask(rows: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor(rows, device=DEVICE).bool()


def toy_context(
    selected: Tensor,
    *,
    losses: Tensor | None = None,
    jacobian: Tensor | None = None,
    own: Tensor | None = None,
    images: Sequence[Tensor] = (),
    seed: int = 0,
) -> BalancingContext:
    """Teacher t's loss is the mean of its column of `losses`, its gradient row t of `jacobian`.

    Both are zero for teachers without a selected row, as they are in training.
    """
    batch, teachers = selected.shape
    losses = torch.ones(batch, teachers, device=DEVICE) if losses is None else losses.to(DEVICE)
    jacobian = torch.zeros(teachers, 4) if jacobian is None else jacobian
    jacobian = jacobian.to(DEVICE, losses.dtype) * selected.any(dim=0)[:, None]
    # Two leaves, as image and text are.
    half = jacobian.shape[1] // 2
    image = torch.zeros(half, 1, device=DEVICE, dtype=losses.dtype, requires_grad=True)
    text = torch.zeros(jacobian.shape[1] - half, 1, device=DEVICE, dtype=losses.dtype, requires_grad=True)

    def teacher_losses() -> list[Tensor]:
        means = (losses * selected).sum(dim=0) / selected.sum(dim=0).clamp_min(1)
        return list(means + jacobian @ torch.cat([image, text])[:, 0])

    return BalancingContext(
        teachers=tuple(f"teacher_{number}" for number in range(teachers)),
        groups=torch.zeros(batch, dtype=torch.int64, device=DEVICE),
        losses=losses * selected,
        selected=selected,
        generator=generator(seed),
        embeddings=(image, text),
        teacher_losses=teacher_losses,
        queries=TeacherQueries(
            own_losses=lambda scale: own.to(DEVICE) * (scale or 1.0) * selected,
            images=lambda: [each.to(DEVICE) for each in images],
        ),
    )
