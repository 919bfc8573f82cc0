"""Numbers that are not finite stop the training before they reach a weight that is kept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.errors import NonFiniteError
from meddistill.training.gradients import StepReport
from meddistill.training.processes import Processes

_SHOWN = 20
_REMEDY = (
    "A lower learning rate may help; remove the stage's folder to train it anew with one. "
    "Finished checkpoints are intact."
)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    step: int
    finite: Bool[Tensor, ""]
    gradient_norm: Float[Tensor, ""]
    report: StepReport


@final
class NonFiniteWatch:
    """Remembers the steps since the last look, with their samples, and raises at the next look.

    Looking reads from the device and waits for it. On a CPU that costs nothing and every step is looked at
    before its update. On a GPU the optimiser skips an update whose gradient is not finite by itself, and the
    look comes with the next log line or checkpoint: nothing that follows such a step is saved.
    """

    def __init__(self, *, ids: Sequence[str], processes: Processes, teachers: Sequence[str] = ()) -> None:
        self._ids = ids
        self._teachers = tuple(teachers)
        self._processes = processes
        self._seen: list[_Seen] = []

    def record(self, report: StepReport, *, step: int, gradient_norm: Tensor) -> Bool[Tensor, ""]:
        """Take note of a step; whether its loss and gradient are finite, on the device."""
        finite = report.loss.total.isfinite() & gradient_norm.isfinite()
        self._seen.append(_Seen(step=step, finite=finite, gradient_norm=gradient_norm, report=report))
        return finite

    def look(self) -> None:
        """Raise NonFiniteError for the first step since the last look that was not finite.

        All processes see the same flags, so all of them raise, each naming the samples of all.
        """
        seen, self._seen = self._seen, []
        if not seen or bool(torch.stack([each.finite for each in seen]).all()):
            return
        first = next(each for each in seen if not bool(each.finite))
        raise NonFiniteError(self._message(first))

    def look_at_state(self, *states: Mapping[str, Tensor], step: int) -> None:
        """Raise NonFiniteError if weights or running statistics after `step` updates are not finite.

        An update can overflow though its gradient was finite; nothing may be saved of that.
        """
        named = [entry for state in states for entry in state.items()]
        wrong = [name for name, value in named if not bool(value.isfinite().all())]
        if wrong:
            msg = (
                f"`student` must be finite; got NaN or infinity in {len(wrong)} of its tensors ({wrong[0]} "
                f"first) after step {step}. {_REMEDY}"
            )
            raise NonFiniteError(msg)

    def _message(self, seen: _Seen) -> str:
        report = seen.report
        shares = self._processes.gather_objects([self._ids[row] for row in report.samples.tolist()])
        samples = [sample for share in shares for sample in share]
        finite = report.finite_rows.tolist()
        wrong = [sample for sample, fine in zip(samples, finite, strict=True) if not fine]
        if wrong:
            place = f"embeddings of {len(wrong)} sample{'' if len(wrong) == 1 else 's'}"
        else:
            place, wrong = "the loss or its gradient (all embeddings are finite)", samples
        losses = ", ".join(f"{name} {value.item():.4g}" for name, value in report.loss.parts.items())
        teachers = self._not_finite_teachers(report)
        if teachers:
            place += f", of teacher{'' if len(teachers) == 1 else 's'} {', '.join(teachers)}"
        shown = ", ".join(wrong[:_SHOWN]) + (" ..." if len(wrong) > _SHOWN else "")
        return (
            f"`loss` must be finite; got {report.loss.total.item()} in step {seen.step} ({losses}; gradient "
            f"norm {seen.gradient_norm.item():.4g}). Not finite: {place}. Samples: {shown}. "
            f"Look at these samples. {_REMEDY}"
        )

    def _not_finite_teachers(self, report: StepReport) -> list[str]:
        """Those whose loss, or gradient where a weighting asked for it, is not finite; none if all are so."""
        losses = zip(self._teachers, report.loss.teacher_losses.tolist(), strict=False)
        numbers = [(f"teacher/{name}/loss", loss) for name, loss in losses]
        for each in report.loss.reported:
            numbers += zip(each.names, each.totals.tolist(), strict=True)
        wrong = {
            name.split("/")[1] for name, value in numbers if _of_teacher(name) and not math.isfinite(value)
        }
        return [name for name in self._teachers if name in wrong] if len(wrong) < len(self._teachers) else []


def _of_teacher(name: str) -> bool:
    return name.startswith("teacher/")
