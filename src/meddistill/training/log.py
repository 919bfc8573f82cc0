"""What a training says of itself: means over some steps, as JSON lines and for TensorBoard."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor

from meddistill.errors import CheckpointError
from meddistill.files import write_whole, writing
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
        self._reported: dict[tuple[str, ...], Tensor] = {}
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
                loss.agreement * loss.agreement_rows,
                loss.agreement_rows,
            ]
        ).float()
        self._scalars = now if self._scalars is None else self._scalars + now
        self._per_teacher = teachers if self._per_teacher is None else self._per_teacher + teachers
        for each in loss.reported:
            sums = torch.stack([each.totals, each.counts])
            self._reported[each.names] = self._reported.get(each.names, 0) + sums
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Means since the last call. A teacher without rows in these steps has no loss and no agreement.

        Nor has one whose space no objective looks at an agreement. What a weighting has to say besides is
        the mean of what it was found for.
        """
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
        for reported, sums in self._reported.items():
            totals, numbers = sums.tolist()
            measured = zip(reported, totals, numbers, strict=True)
            record |= {name: total / number for name, total, number in measured if number}
        self._reported = {}
        self._scalars = self._per_teacher = None
        self._steps = 0
        return record


@final
class TrainingLog:
    """`log.jsonl` and `tensorboard/` in a stage's folder, continued after step `start`.

    A line: step (updates done), epoch (as a fraction), loss, loss/<objective>, gradient_norm, logit_scale,
    learning_rate, images_per_second, and for each teacher teacher/<id>/loss, /weight and /agreement; of rules
    over gradients also teacher/<id>/gradient_norm at the student's embeddings, gradients/cosine/<id>/<id> and
    gradients/conflict, the share of pairs of teachers whose cosine is below 0; at the end of an epoch of a
    stage that selects one, validation. Means over the steps since the line before.
    """

    def __init__(self, folder: Path, *, start: int) -> None:
        self.path = folder / LOG_FILE
        self._keep_until(start)
        # Unbuffered: what a full disk refuses is refused once, at the line.
        self._file = self.path.open("ab", buffering=0)
        purge_step = start + 1 if start else None
        self._board = _Board(folder / TENSORBOARD_FOLDER, purge_step=purge_step)

    def _keep_until(self, start: int) -> None:
        """Drop lines of steps that will be done again, and a line that was cut off."""
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= start:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        write_whole(self.path, "".join(kept).encode(), error=CheckpointError)

    def write(self, record: Mapping[str, float]) -> None:
        """Add a line; `record` has a `step`."""
        scalars = {name: value for name, value in record.items() if name != "step"}
        with writing(self.path, CheckpointError):
            _write_all(self._file, json.dumps(record).encode() + b"\n")
            self._board.write(scalars, step=int(record["step"]))

    def close(self) -> None:
        """Make what was written durable."""
        with self._file, self._board, writing(self.path, CheckpointError):
            os.fsync(self._file.fileno())


@final
class _Board:
    """Scalars as TensorBoard reads them, written at once.

    Not by torch's SummaryWriter: that one writes in a thread, which dies of a full disk with a traceback.
    """

    def __init__(self, folder: Path, *, purge_step: int | None) -> None:
        self._folder = folder
        self._purge_step = purge_step
        self._file: RawIOBase | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, scalars: Mapping[str, float], *, step: int) -> None:
        """One event with all scalars of a step."""
        # Slow to import, and of no use to whoever does not train.
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        if self._file is None:
            self._begin()
        self._event(step=step, summary=Summary(value=values))

    def _begin(self) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}"
        self._file = (self._folder / name).open("wb", buffering=0)
        self._event(file_version="brain.Event:2")
        if self._purge_step is not None:
            self._event(step=self._purge_step, session_log=SessionLog(status=SessionLog.START))

    def _event(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        if self._file is not None:
            _write_all(self._file, record.getvalue())


def _write_all(file: RawIOBase, content: bytes) -> None:
    """On a disk that is nearly full, a raw file takes a part without a word."""
    while content:
        content = content[file.write(content) or 0 :]
