"""The processes that train together, and the few things that they tell one another.

There is no DistributedDataParallel around the student. Its reducer sums gradients during backward and takes
one backward per step for granted; here the loss is computed on gathered embeddings, the towers run backward
once per micro-batch from given gradients, and balancing may run several backwards before that. Gradients are
therefore summed once per step, after the last backward, in flat buckets.
"""

import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, final

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

_BUCKET_BYTES = 25 * 2**20
# The main process extracts features while the others wait; NCCL's own patience is ten minutes.
_PATIENCE = timedelta(days=7)


@final
class Processes:
    """All processes of this training; a single one unless it was started by torchrun or accelerate launch.

    `device` is this process's, `count` their number, `index` this one's place. Every method that gathers or
    sums must be called by all processes.
    """

    def __init__(self, *, cpu: bool = False) -> None:
        """Joins the process group that the launcher's environment names. `cpu`: leave the GPU alone."""
        # Without a GPU accelerate joins the other processes only when it is told to use the CPU: each would
        # otherwise take itself for the main one.
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        on_cpu = cpu or (several and not torch.cuda.is_available())
        self._state = PartialState(cpu=on_cpu, timeout=_PATIENCE)
        device = self._state.device  # of several processes without a GPU "cpu:0", which safetensors refuses
        self.device: torch.device = torch.device("cpu") if device.type == "cpu" else device
        self.count: int = self._state.num_processes
        self.index: int = self._state.process_index

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.index == 0

    def wait(self) -> None:
        """Until all processes are here."""
        self._state.wait_for_everyone()

    def leave(self) -> None:
        """Leave the others, the last call: threads of a group that was not left may abort their process."""
        if self.count > 1:
            dist.destroy_process_group()

    def gather_columns(self, columns: Sequence[Tensor]) -> list[Tensor]:
        """Each `[n, d_i]` tensor as `[processes · n, d_i]`, in the order of the processes; without gradient.

        One message for all of them. n must be the same in every process, dtypes must agree.
        """
        if self.count == 1:
            return list(columns)
        packed = torch.cat(list(columns), dim=1).contiguous()
        everyone = packed.new_empty((self.count * len(packed), packed.shape[1]))
        dist.all_gather(list(everyone.chunk(self.count)), packed)
        return list(everyone.split([column.shape[1] for column in columns], dim=1))

    def sum_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, bit for bit the same in all of them."""
        if self.count == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def average_in_place(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.count == 1:
            return
        listed = list(tensors)
        self.sum_in_place(listed)
        for tensor in listed:
            tensor.div_(self.count)

    def gather_objects(self, value: Any) -> list[Any]:
        """Every process's `value`."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """The main process's `value`."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


def _buckets(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors of one dtype, in order, up to 25 MiB a bucket (a larger one alone)."""
    buckets: list[list[Tensor]] = []
    size = 0
    for tensor in tensors:
        bytes_ = tensor.numel() * tensor.element_size()
        fits = buckets and buckets[-1][0].dtype == tensor.dtype and size + bytes_ <= _BUCKET_BYTES
        if not fits:
            buckets.append([])
            size = 0
        buckets[-1].append(tensor)
        size += bytes_
    return buckets
