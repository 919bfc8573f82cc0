"""A stage from its first step to its finished student, however often it is interrupted."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

import torch
from safetensors.torch import load_file

from meddistill.allocator import keep_freed_memory
from meddistill.errors import CheckpointError
from meddistill.files import file_aside, sealed, sha256_of, unsealed, write_whole, writing
from meddistill.methods.base import Method
from meddistill.progress import Progress, SilentProgress
from meddistill.records import Batch
from meddistill.training.batches import TrainingData
from meddistill.training.checkpoint import STUDENT, Checkpoints, Progressed, refuse_difference
from meddistill.training.config import FREE_ON_RESUME, TrainingConfig
from meddistill.training.files import save_tensors
from meddistill.training.gradients import GradientStep, StepReport, StepSettings
from meddistill.training.log import LOG_FILE, Meter, TrainingLog
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from meddistill.training.schedule import learning_rate
from meddistill.training.student import Student
from meddistill.training.validation import Selection, Validation
from meddistill.training.watch import NonFiniteWatch

if TYPE_CHECKING:
    from meddistill.features.sources import TeacherSource

DONE = "done.json"
_CHECKPOINTS = "checkpoints"
_RUNNING_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is trained, on what.

    `config` is the stage's whole configuration (training and method). `data` gives batches of
    `config.batch_size` rows over all processes. `source` may be None for methods without teachers. `inputs`
    are plain values that the caller wants a checkpoint to be tied to, such as the hash of the initial student
    and the teachers' fingerprints. `licences`, by component, are written beside the weights and tie nothing.
    With `validation` the weights of the best epoch are the stage's.
    """

    student: Student
    method: Method
    data: TrainingData
    source: "TeacherSource | None"
    config: TrainingConfig
    inputs: Mapping[str, Any] = field(default_factory=dict)
    licences: Mapping[str, Any] = field(default_factory=dict)
    validation: Validation | None = None

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be taken up again."""
        return {
            "config": self.config.model_dump(mode="json", exclude=set(FREE_ON_RESUME)),
            "data": self.data.fingerprint,
            "teachers": list(self.method.teachers),
            **self.inputs,
        }


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """A finished stage: optimiser steps, seconds of training over all attempts, its files.

    `best`: value and epoch (from 1) of the weights that were kept, of a stage with validation.
    """

    steps: int
    wall_seconds: float
    student: Path
    log: Path
    best: tuple[float, int] | None = None


def train_stage(
    stage: Stage, folder: Path, *, processes: Processes, progress: Progress | None = None
) -> StageResult:
    """Train a stage in `folder`, or go on with it; afterwards `stage.student` has the final weights.

    Writes `checkpoints/` (removed at the end), `log.jsonl`, `tensorboard/`, `student.safetensors` and, last,
    `done.json`. A finished stage is loaded and not trained again. On a CPU an interrupted stage ends with the
    same weights, bit for bit, as an uninterrupted one with as many processes.

    Raises CheckpointError where the folder holds another run's work, NonFiniteError where a loss or gradient
    is not finite; checkpoints stay as they were.
    """
    shown = progress if progress is not None and processes.is_main else SilentProgress()
    trainer = _Trainer(stage, folder, processes=processes, progress=shown)
    # Steps seed torch's generators; whoever calls gets them back as they were.
    devices = [processes.device] if processes.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        return trainer.run()


@final
class _Trainer:
    def __init__(self, stage: Stage, folder: Path, *, processes: Processes, progress: Progress) -> None:
        keep_freed_memory()
        self.stage = stage
        self.folder = folder
        self.processes = processes
        self.progress = progress
        self.config = stage.config
        self.total = stage.data.steps * self.config.epochs
        stage.student.to(processes.device)
        stage.method.to(processes.device)
        self.optimizer = Optimizer(student=stage.student, method=stage.method, config=self.config)
        self.checkpoints = Checkpoints(
            folder / _CHECKPOINTS,
            identity=stage.identity(),
            student=stage.student,
            method=stage.method,
            optimizer=self.optimizer,
            licences=stage.licences,
        )
        self.selection = Selection(stage.validation, None)
        self.watch = NonFiniteWatch(ids=stage.data.ids, processes=processes, teachers=stage.method.teachers)
        self.gradients = GradientStep(
            student=stage.student,
            method=stage.method,
            source=stage.source,
            processes=processes,
            settings=StepSettings(
                micro_batch=self.config.micro_batch, precision=self.config.precision, seed=self.config.seed
            ),
        )

    def run(self) -> StageResult:
        finished = self._finished()
        if finished is not None:
            return finished
        with writing(self.folder, CheckpointError):
            self.folder.mkdir(parents=True, exist_ok=True)
        start = self._resume()
        self.selection = Selection(self.stage.validation, start.best)
        self.stage.student.train()
        self.stage.method.train()
        progressed = self._train(start)
        self.stage.student.eval()
        return self._finish(progressed)

    def _finished(self) -> StageResult | None:
        path = self.folder / DONE
        if not path.is_file():
            return None
        done = _done(path)
        refuse_difference(done["identity"], self.stage.identity(), place=self.folder)
        weights = self.folder / STUDENT
        if not weights.is_file() or sha256_of(weights) != done["sha256"]:
            raise _damaged(weights)
        self.stage.student.load_state_dict(load_file(weights, device=str(self.processes.device)))
        self.stage.student.eval()
        return self._result(done["steps"], done["seconds"], done.get("best"))

    def _resume(self) -> Progressed:
        """The state of the newest checkpoint; the main process chooses it for all."""
        chosen, problem = None, None
        if self.processes.is_main:
            try:
                chosen = self.checkpoints.newest(self.progress.say)
            except CheckpointError as error:
                problem = error
        chosen, problem = self.processes.from_main((chosen, problem))
        if problem is not None:
            raise problem
        if chosen is None:
            return Progressed()
        progressed = self.checkpoints.load(chosen, device=self.processes.device)
        if self.processes.is_main:
            self.progress.say(f"Going on after step {progressed.step} of {self.total}.")
        return progressed

    def _train(self, start: Progressed) -> Progressed:
        """All steps that are left; how far it came, earlier attempts included."""
        began = time.monotonic() - start.seconds
        size, per_epoch = self.config.batch_size, self.stage.data.steps
        done, over = start.step, False
        with (
            _Journal(self.folder, stage=self.stage, start=done, active=self.processes.is_main) as journal,
            self.progress.track(
                f"Training {self.folder.name}", self.total * size, done=done * size
            ) as advance,
        ):
            for batch in self._batches(done):
                report, norm = self._step(batch, step=done)
                done += 1
                journal.add(report, norm)
                validated = self._validate(done) if done % per_epoch == 0 else {}
                if done % self.config.log_every == 0 or done == self.total or validated:
                    self.watch.look()
                    rate = learning_rate(self.config, step=done - 1, total=self.total)
                    line = {"epoch": done / per_epoch, "learning_rate": rate, **validated}
                    journal.write(step=done, line=line)
                over = done == self.total or self.selection.is_over(done // per_epoch)
                now = Progressed(step=done, seconds=time.monotonic() - began, best=self.selection.best)
                if done % self.config.checkpoint_every == 0 and not over:
                    self._checkpoint(now)
                advance(size)
                if over:
                    return now
        if done != self.total:
            msg = f"the data must give {self.total} batches; it gave {done}"
            raise RuntimeError(msg)
        return start

    def _validate(self, done: int) -> dict[str, float]:
        """The trainee's number after an epoch, for the log; nothing of a stage without validation."""
        validation, student = self.stage.validation, self.stage.student
        if validation is None:
            return {}
        self.watch.look()
        self._agree_on_buffers()
        value = 0.0
        if self.processes.is_main:
            student.eval()
            with torch.no_grad():
                value = validation.measure(student)
            student.train()
        value = self.processes.from_main(value)
        self.selection.take(value, epoch=done // self.stage.data.steps, student=student)
        return {"validation": value}

    def _batches(self, start: int) -> Iterator[Batch]:
        """This process's share of all batches from step `start` on."""
        for epoch in range(start // self.stage.data.steps, self.config.epochs):
            first = max(start - epoch * self.stage.data.steps, 0)
            yield from self.stage.data.batches(epoch=epoch, start=first)

    def _checkpoint(self, progressed: Progressed) -> None:
        self.watch.look()
        self._agree_on_buffers()
        self._look_at_state(progressed.step)
        if self.processes.is_main:
            self.checkpoints.save(progressed)
        self.processes.wait()

    def _look_at_state(self, step: int) -> None:
        states = self.stage.student.state_dict(), self.stage.method.state_dict()
        self.watch.look_at_state(*states, step=step)

    def _agree_on_buffers(self) -> None:
        """Average running statistics, which each process gathers over its own rows.

        Training does not read them. It is done at each checkpoint, also in a run that is never interrupted,
        so that both kinds of run end with the same numbers.
        """
        named = self.stage.student.named_buffers()
        statistics = [buffer for name, buffer in named if name.rpartition(".")[2] in _RUNNING_STATISTICS]
        self.processes.average_in_place(statistics)

    def _finish(self, progressed: Progressed) -> StageResult:
        self._agree_on_buffers()
        self._look_at_state(progressed.step)
        best = None
        if progressed.best is not None:
            self.stage.student.load_state_dict(progressed.best.weights)
            best = progressed.best.value, progressed.best.epoch
        if self.processes.is_main:
            self._write_student(progressed, best)
            self.checkpoints.remove_all()
        self.processes.wait()
        return self._result(progressed.step, progressed.seconds, best)

    def _write_student(self, progressed: Progressed, best: tuple[float, int] | None) -> None:
        weights = self.folder / STUDENT
        with writing(weights, CheckpointError), file_aside(weights) as partial:
            save_tensors(self.stage.student.state_dict(), partial)
        done = {
            "steps": progressed.step,
            "seconds": progressed.seconds,
            **({} if best is None else {"best": best}),
            "identity": self.stage.identity(),
            "licences": dict(self.stage.licences),
            "sha256": sha256_of(weights),
        }
        content = json.dumps(sealed(done), indent=1).encode()
        write_whole(self.folder / DONE, content, error=CheckpointError)

    def _result(self, steps: int, seconds: float, best: Sequence[float] | None) -> StageResult:
        return StageResult(
            steps=steps,
            wall_seconds=seconds,
            student=self.folder / STUDENT,
            log=self.folder / LOG_FILE,
            best=None if best is None else (float(best[0]), int(best[1])),
        )

    def _step(self, batch: Batch, *, step: int) -> tuple[StepReport, torch.Tensor]:
        """One update; on a CPU a step that is not finite stops here."""
        self.optimizer.clear()
        report = self.gradients(batch, step=step)
        norm = self.optimizer.gradient_norm()
        finite = self.watch.record(report, step=step, gradient_norm=norm)
        if self.processes.device.type == "cpu":
            self.watch.look()
        rate = learning_rate(self.config, step=step, total=self.total)
        self.optimizer.update(rate=rate, gradient_norm=norm, finite=finite)
        self.stage.student.after_update()
        self.stage.method.after_update()
        return report, norm


def _done(path: Path) -> dict[str, Any]:
    try:
        done = unsealed(json.loads(path.read_bytes()))
    except ValueError:
        done = None
    if done is None:
        raise _damaged(path)
    return done


def _damaged(path: Path) -> CheckpointError:
    msg = (
        f"`{path}` must be as it was written; it is missing or has other bytes. "
        "Remove the stage's folder to train it anew."
    )
    return CheckpointError(msg)


@final
class _Journal:
    """The stage's log, written by one process; the others keep nothing."""

    def __init__(self, folder: Path, *, stage: Stage, start: int, active: bool) -> None:
        self._log = TrainingLog(folder, start=start) if active else None
        self._meter = Meter(stage.method.teachers)
        self._batch_size = stage.config.batch_size
        self._steps = 0
        self._since = time.monotonic()

    def add(self, report: StepReport, gradient_norm: torch.Tensor) -> None:
        if self._log is not None:
            self._meter.add(report, gradient_norm)
            self._steps += 1

    def write(self, *, step: int, line: Mapping[str, float]) -> None:
        if self._log is None:
            return
        means = self._meter.take()
        now = time.monotonic()
        images = self._steps * self._batch_size / max(now - self._since, 1e-9)
        self._steps, self._since = 0, now
        head = {"step": step, **line, "images_per_second": images}
        self._log.write({**head, **means})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._log is not None:
            self._log.close()
