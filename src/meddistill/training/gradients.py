"""One step's gradients: embeddings are leaves, the loss sees the global batch, towers run per micro-batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meddistill.data.draws import derive_seed
from meddistill.methods.base import Method
from meddistill.methods.patch_mask import kept_pixels
from meddistill.methods.step import StepLoss
from meddistill.objectives.base import full_precision
from meddistill.records import (
    AnyRecord,
    Batch,
    Record,
    StudentOutputs,
    TeacherOutputs,
    cut,
    join,
    map_differentiable,
    map_rows,
    positives,
    to_device,
)
from meddistill.students.buffers import unchanged_buffers
from meddistill.training.batches import chunks_of, on_device
from meddistill.training.precision import Precision, autocast, autocast_dtype
from meddistill.training.processes import Processes
from meddistill.training.student import Student

if TYPE_CHECKING:
    from meddistill.features.sources import TeacherSource


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What of a stage's configuration bears on its gradients."""

    micro_batch: int | None = None
    precision: Precision = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one step found. Nothing here has been read back from the device.

    `finite_rows`: rows of the global batch whose student and teacher embeddings are all finite. `samples`:
    this process's rows of it, on the host.
    """

    loss: StepLoss
    logit_scale: Float[Tensor, ""]
    finite_rows: Bool[Tensor, " global_batch"]
    samples: Int[Tensor, " batch"]


@dataclass(frozen=True, kw_only=True)
class _Global:
    """The global batch, the same in every process."""

    student: StudentOutputs
    teachers: Mapping[str, TeacherOutputs]
    positives: Bool[Tensor, "global_batch global_batch"]
    finite_rows: Bool[Tensor, " global_batch"]


@final
class GradientStep:
    """Leaves the gradient of the global batch's loss in the `.grad` of student and method.

    1. The towers embed this process's rows, micro-batch by micro-batch. With one micro-batch the graph is
       kept; with several they run without gradient and only the embeddings stay. Further passes that the
       method asks for are among them.
    2. Embeddings and teacher outputs of all processes are gathered, detached from their graphs.
    3. The method's loss on them is computed in every process alike and differentiated down to the embeddings
       and the method's heads. This is where a contrastive loss sees all negatives.
    4. Each process pushes its own rows' gradients through its towers, forward passes repeated with the same
       random numbers.
    5. The student's gradients are summed over the processes. The logit scale's, which every process has
       whole, is divided by their number first; the heads' are averaged.

    So k micro-batches and W processes give what one batch in one process gives, to rounding, for students
    whose rows do not see one another (no BatchNorm). This is gradient caching (Gao et al. 2021).
    """

    def __init__(
        self,
        *,
        student: Student,
        method: Method,
        source: "TeacherSource | None",
        processes: Processes,
        settings: StepSettings,
    ) -> None:
        self.student = student
        self.method = method
        self.source = source
        self.processes = processes
        self.settings = settings
        self._dtype = autocast_dtype(settings.precision, processes.device)

    def __call__(self, batch: Batch, *, step: int) -> StepReport:
        """Gradients of optimiser step `step` for this process's share of the batch."""
        batch = on_device(batch, self.processes.device)
        chunks = chunks_of(batch, self.settings.micro_batch)
        embedded, kept = self._embed(batch, chunks, step=step)
        whole = self._gather(batch, embedded)
        loss, leaves = self._loss(whole, step=step)
        self._push(batch, chunks, leaves=leaves, kept=kept, step=step)
        self._reduce()
        return StepReport(
            loss=loss,
            logit_scale=embedded.logit_scale,
            finite_rows=whole.finite_rows,
            samples=batch.samples,
        )

    def _embed(
        self, batch: Batch, chunks: Sequence[slice], *, step: int
    ) -> tuple[StudentOutputs, StudentOutputs | None]:
        """This process's embeddings without gradient; with one micro-batch, those with their graph too."""
        if len(chunks) == 1:
            kept = self._forward(batch, step=step, chunk=0)
            return _detached(kept), kept
        with torch.no_grad(), unchanged_buffers(self.student):
            parts = [
                self._forward(cut(batch, rows), step=step, chunk=number) for number, rows in enumerate(chunks)
            ]
        return join(parts), None

    def _forward(self, batch: Batch, *, step: int, chunk: int) -> StudentOutputs:
        """The towers on one micro-batch; its dropout depends on (seed, step, process, micro-batch) alone."""
        torch.manual_seed(derive_seed("dropout", self.settings.seed, step, self.processes.index, chunk))
        with autocast(self.processes.device, self._dtype):
            outputs = self.student(batch, shown=self._shown(batch, step=step))
        return map_differentiable(outputs, full_precision)

    def _shown(self, batch: Batch, *, step: int) -> dict[str, Bool[Tensor, "batch height width"]]:
        """Pixels that the student sees in each further pass; they depend on (seed, step, row)."""
        if not self.method.passes:
            return {}
        samples = to_device(batch.samples, self.processes.device)
        size = {"height": batch.rasters.shape[1], "width": batch.rasters.shape[2]}
        seed = derive_seed("mask", self.settings.seed, step)
        return {
            name: kept_pixels(each, samples, **size, seed=seed) for name, each in self.method.passes.items()
        }

    def _gather(self, batch: Batch, embedded: StudentOutputs) -> _Global:
        teachers = self._teachers(batch)
        records: list[Record] = [embedded, *teachers.values()]
        dtype = next(iter(embedded.embeddings().values())).dtype
        rows = [each for record in records for each in record.per_row().values()]
        columns = [each.to(dtype).reshape(len(batch), -1) for each in rows]
        everyone = iter(gathered := self.processes.gather_columns(columns))
        student = _from_columns(embedded, everyone)
        whole = {name: _from_columns(outputs, everyone) for name, outputs in teachers.items()}
        own = batch.numbers()
        columns = self.processes.gather_columns([each[:, None] for each in own.values()])
        numbers = {name: column[:, 0] for name, column in zip(own, columns, strict=True)}
        finite = [column.isfinite().all(dim=1) for column in gathered]
        return _Global(
            student=replace(student, captioned=numbers["text_group"] >= 0, groups=numbers.get("groups")),
            teachers=whole,
            positives=positives(numbers["image_group"], numbers["text_group"]),
            finite_rows=torch.stack(finite).all(dim=0),
        )

    @torch.no_grad()
    def _teachers(self, batch: Batch) -> dict[str, TeacherOutputs]:
        """Outputs of the method's teachers for this process's rows, on the device."""
        if self.source is None or not self.method.teachers:
            return {}
        device = self.processes.device
        chunks = chunks_of(batch, self.settings.micro_batch)
        parts = [self.source.outputs(cut(batch, rows)) for rows in chunks]
        return {
            name: join([map_rows(part[name], lambda each: to_device(each, device)) for part in parts])
            for name in self.method.teachers
        }

    def _loss(self, whole: _Global, *, step: int) -> tuple[StepLoss, StudentOutputs]:
        """The loss, and the embeddings with its gradient in their `.grad`."""
        leaves = _detached(whole.student)
        for leaf in leaves.differentiable().values():
            leaf.requires_grad_()
        generator = torch.Generator().manual_seed(derive_seed("selection", self.settings.seed, step))
        loss = self.method.loss(leaves, whole.teachers, positives=whole.positives, generator=generator)
        loss.total.backward()
        return replace(loss, total=loss.total.detach()), leaves

    def _push(
        self,
        batch: Batch,
        chunks: Sequence[slice],
        *,
        leaves: StudentOutputs,
        kept: StudentOutputs | None,
        step: int,
    ) -> None:
        """Backward through the towers from the gradients at this process's embeddings."""
        first = self.processes.index * len(batch)
        for number, rows in enumerate(chunks):
            outputs = kept or self._forward(cut(batch, rows), step=step, chunk=number)
            own = slice(first + rows.start, first + rows.stop)
            given = leaves.differentiable()
            pairs = [(output, _part(given[name], own)) for name, output in outputs.embeddings().items()]
            if number == 0:
                pairs += [(output, self._share(given[name])) for name, output in outputs.shared().items()]
            wanted = [(output, grad) for output, grad in pairs if output.requires_grad and grad is not None]
            if wanted:
                torch.autograd.backward([output for output, _ in wanted], [grad for _, grad in wanted])

    def _share(self, leaf: Tensor) -> Tensor | None:
        """This process's share of the gradient of what every process has whole."""
        return None if leaf.grad is None else leaf.grad / self.processes.count

    def _reduce(self) -> None:
        self.processes.sum_in_place(_gradients(self.student))
        self.processes.average_in_place(_gradients(self.method))


class _HasParameters(Protocol):
    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]: ...


def _gradients(module: _HasParameters) -> list[Tensor]:
    return [parameter.grad for _, parameter in module.named_parameters() if parameter.grad is not None]


def _part(leaf: Tensor, rows: slice) -> Tensor | None:
    return None if leaf.grad is None else leaf.grad[rows]


def _detached(outputs: StudentOutputs) -> StudentOutputs:
    return map_differentiable(outputs, Tensor.detach)


def _from_columns(local: AnyRecord, columns: Iterator[Tensor]) -> AnyRecord:
    """The inverse of laying out `per_row` as columns."""
    return map_rows(
        local,
        lambda each: next(columns) if each.is_floating_point() else next(columns)[:, 0].to(each.dtype),
    )
