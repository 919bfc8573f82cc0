"""What training needs of a student; `students.DualEncoder` has it."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from meddistill.records import Batch, StudentOutputs


class Student(Protocol):
    """A module with two towers in one space. Embeddings of a row depend on that row alone.

    Students with batch statistics (BatchNorm) are the exception: they train, but several processes or
    micro-batches then normalise over their own rows and differ from one batch.
    """

    def __call__(self, batch: Batch, *, shown: Mapping[str, Tensor]) -> StudentOutputs:
        """What it makes of a batch.

        `shown`: name → where the images are seen (batch, height, width) in a further pass of that name; other
        pixels show mean colour, and running statistics stay those of whole images.
        """
        ...

    def after_update(self) -> None:
        """Bring parameters, the logit scale among them, back into their range; called after every update."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As of nn.Module; so are the others."""
        ...

    def buffers(self) -> Iterator[Tensor]: ...

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def train(self) -> Any: ...

    def eval(self) -> Any: ...

    def to(self, device: torch.device) -> Self: ...
