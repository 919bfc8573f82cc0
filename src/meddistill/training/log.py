"""What a training says of itself: means over some steps, as JSON lines and for TensorBoard."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from meddistill.training.gradients import StepReport

LOG_FILE = "log.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


@final
class Meter:
    """Sums of what the steps report, kept on the device until they are read."""

    def __init__(self, teachers: Sequence[str]) -> None:
        self._teachers = tuple(teachers)
        self._parts: tuple[str, ...] = ()
        self._scalars: Tensor | None = None
        self._per_teacher: Tensor | None = None
        self._steps = 0

    def add(self, report: StepReport, gradient_norm: Tensor) -> None:
        """Take in one step."""
        loss = report.loss
        self._parts = tuple(loss.parts)
        scalars = [loss.total, *loss.parts.values(), gradient_norm, report.logit_scale]
        now = torch.stack([value.detach().float() for value in scalars])
        teachers = torch.stack(
            [
                loss.teacher_losses * loss.teacher_weights.abs(),
                loss.teacher_weights.abs(),
                loss.teacher_weights,
                loss.agreement * loss.teacher_rows,
                loss.teacher_rows,
            ]
        ).float()
        self._scalars = now if self._scalars is None else self._scalars + now
        self._per_teacher = teachers if self._per_teacher is None else self._per_teacher + teachers
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Means since the last call. A teacher without rows in these steps has no loss and no agreement."""
        if self._scalars is None or self._per_teacher is None:
            return {}
        names = ["loss", *(f"loss/{part}" for part in self._parts), "gradient_norm", "logit_scale"]
        means = (self._scalars / self._steps).tolist()
        record = dict(zip(names, means, strict=True))
        columns = self._per_teacher.T.tolist()
        for name, (loss, size, weight, agreement, rows) in zip(self._teachers, columns, strict=True):
            record[f"teacher/{name}/weight"] = weight / self._steps
            if size > 0:
                record[f"teacher/{name}/loss"] = loss / size
            if rows > 0:
                record[f"teacher/{name}/agreement"] = agreement / rows
        self._scalars = self._per_teacher = None
        self._steps = 0
        return record


@final
class TrainingLog:
    """`log.jsonl` and `tensorboard/` in a stage's folder, continued after step `start`.

    A line: step (updates done), epoch (as a fraction), loss, loss/<objective>, gradient_norm, logit_scale,
    learning_rate, images_per_second, and for each teacher teacher/<id>/loss, /weight and /agreement; means
    over the steps since the line before.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        self.path = folder / LOG_FILE
        self._folder = folder
        self._start = start
        self._keep_until(start)
        self._file = self.path.open("a", encoding="utf-8")
        self._board: Any = None

    def _keep_until(self, start: int) -> None:
        """Drop lines of steps that will be done again, and a line that was cut off."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                step = json.loads(line)["step"]
            except (ValueError, KeyError, TypeError):
                continue
            if step <= start:
                kept.append(line + "\n")
        partial = self.path.with_suffix(".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(self.path)

    def write(self, record: Mapping[str, float]) -> None:
        """Add a line; `record` has a `step`."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        step = int(record["step"])
        for name, value in record.items():
            if name != "step":
                self._writer().add_scalar(name, value, step)

    def _writer(self) -> Any:
        if self._board is None:
            # Slow to import, and of no use to whoever does not train.
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(
                str(self._folder / TENSORBOARD_FOLDER), purge_step=self._start + 1 if self._start else None
            )
        return self._board

    def close(self) -> None:
        """Flush what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._board is not None:
            self._board.close()
