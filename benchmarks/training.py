"""A student trained from nine stored teachers against the same student trained alone, at 224 px.

On a GPU, where there is one, in bf16; else on the CPU. Checkpoints are not in it. Beside it, for scale: the
same from one `.pt` file a sample, and what nine ViT-B/16 teachers would cost that are asked in every step.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import timm
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.linear_teacher import load_linear_teachers
from benchmarks.measure import Measurement, interleaved, seconds
from benchmarks.phantom_pairs import phantom_pairs
from meddistill.data.dataset import SampleDataset, token_table
from meddistill.data.loader import BatchLoader, make_loader
from meddistill.data.plan import EpochPlan
from meddistill.data.samples import Samples
from meddistill.features.config import ExtractOptions
from meddistill.features.extract import extract
from meddistill.features.sources import StoredTeachers, TeacherSource
from meddistill.methods.base import TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.records import Batch, TeacherOutputs
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.training.batches import on_device
from meddistill.training.config import TrainingConfig
from meddistill.training.gradients import GradientStep, StepSettings
from meddistill.training.log import Meter
from meddistill.training.optimizer import Optimizer
from meddistill.training.precision import autocast, autocast_dtype
from meddistill.training.processes import Processes
from meddistill.training.watch import NonFiniteWatch

LIMIT = 0.95
SIZE, IMAGES, BATCH, ROUNDS = 224, 96, 32, 5
TEACHERS, DIM = 9, 512
STUDENTS = {
    "nano": StudentConfig(preset="nano"),
    "ViT-Tiny": StudentConfig(image_tower="vit_tiny_patch16_224", image_size=SIZE, embed_dim=256),
}
PROCESSES = Processes()
METHOD = EmbeddingConfig.model_validate({"method": "embedding", "selection": {"kind": "random_draw"}})


def run() -> list[Measurement]:
    """Images a second of each way of training as a share of the bare student's."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        found = [_against_bare(name, world, student) for name, student in STUDENTS.items()]
        return [*found, *_for_scale(world)]


@dataclass(frozen=True)
class World:
    """Phantom images of 224 px and what nine teachers say of them."""

    folder: Path

    @cached_property
    def samples(self) -> Samples:
        """The pairs."""
        return phantom_pairs(self.folder, IMAGES, size=SIZE)

    @cached_property
    def stored(self) -> StoredTeachers:
        """From the feature store."""
        teachers = load_linear_teachers(TEACHERS, dim=DIM)
        store = extract(self.folder / "store", self.samples, teachers, ExtractOptions())
        return StoredTeachers(store, self.samples, tuple(teachers), device=PROCESSES.device)

    def loader(self, student: DualEncoder) -> BatchLoader:
        """Every image decoded in every epoch."""
        dataset = SampleDataset(
            self.samples,
            student=student.input.geometry,
            tokens=token_table(self.samples.texts or (), student.tokenize),
            cache_bytes=0,
        )
        plan = EpochPlan(rows=len(self.samples), batch_size=BATCH, seed=0, processes=1, process=0)
        return make_loader(dataset, plan=plan)


class _Outputs(Protocol):
    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]: ...


class FilePerSample:
    """The same outputs as one file a sample: a dict of vectors, as the published layout has them."""

    def __init__(self, source: _Outputs, loader: BatchLoader, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        for batch in loader.batches(epoch=0):
            found = source.outputs(batch)
            for place, sample in enumerate(batch.samples.tolist()):
                vectors = {
                    f"{name}_{tower}": _row(found[name], tower, place) for name in found for tower in _TOWERS
                }
                torch.save(vectors, folder / f"{sample}.pt")

    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]:
        """Read, and stack."""
        files = [self._folder / f"{sample}.pt" for sample in batch.samples.tolist()]
        rows = [torch.load(file, weights_only=True) for file in files]
        available = torch.ones(len(rows), dtype=torch.bool, device=PROCESSES.device)
        names = dict.fromkeys(name.rpartition("_")[0] for name in rows[0])
        return {
            name: TeacherOutputs.of_rows(
                available,
                image=torch.stack([row[f"{name}_image"] for row in rows]).to(PROCESSES.device),
                text=torch.stack([row[f"{name}_text"] for row in rows]).to(PROCESSES.device),
            )
            for name in names
        }


_TOWERS = ("image", "text")


def _row(outputs: TeacherOutputs, tower: str, place: int) -> Tensor:
    rows: Tensor = getattr(outputs, tower)
    return rows[place].cpu().clone()


def _bare(student: DualEncoder, loader: BatchLoader) -> Callable[[], None]:
    """An epoch of contrastive training as one would write it in plain torch."""
    device = PROCESSES.device
    student.to(device).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, fused=True)

    def epoch() -> None:
        for batch in loader.batches(epoch=0):
            optimizer.zero_grad()
            moved = on_device(batch, device)
            with autocast(device, autocast_dtype("auto", device)):
                found = student(moved)
            image, text = functional.normalize(found.image, dim=1), functional.normalize(found.text, dim=1)
            logits = found.logit_scale * image @ text.T
            diagonal = torch.arange(len(logits), device=device)
            loss = functional.cross_entropy(logits, diagonal) + functional.cross_entropy(logits.T, diagonal)
            loss.backward()
            optimizer.step()

    return epoch


def _distilled(student: DualEncoder, loader: BatchLoader, source: TeacherSource) -> Callable[[], None]:
    """An epoch of MMKD-CLIP's second stage, with the watch and the meter of the training loop."""
    student.to(PROCESSES.device).train()
    names = [f"teacher_{number}" for number in range(TEACHERS)]
    spaces = {name: TeacherSpace(dims={"image": DIM, "text": DIM}, logit_scale=None) for name in names}
    method = build_method(METHOD, student_dim=student.embed_dim, teachers=spaces, seed=0)
    method.to(PROCESSES.device)
    config = TrainingConfig(epochs=1, batch_size=BATCH, learning_rate=1e-4)
    optimizer = Optimizer(student=student, method=method, config=config)
    settings = StepSettings()
    step = GradientStep(student=student, method=method, source=source, processes=PROCESSES, settings=settings)
    watch, meter = NonFiniteWatch(ids=loader.ids, processes=PROCESSES), Meter(names)

    def epoch() -> None:
        for number, batch in enumerate(loader.batches(epoch=0)):
            optimizer.clear()
            report = step(batch, step=number)
            norm = optimizer.gradient_norm()
            finite = watch.record(report, step=number, gradient_norm=norm)
            if PROCESSES.device.type == "cpu":
                watch.look()
            optimizer.update(rate=1e-4, gradient_norm=norm, finite=finite)
            student.after_update()
            meter.add(report, norm)
        watch.look()

    return epoch


def _ratio(world: World, student: StudentConfig, source: TeacherSource) -> float:
    """Rate of distilling over the rate of the bare student, both with the same loader."""
    first, second = (build_student(student, base=Path(), seed=0) for _ in range(2))
    with closing(world.loader(first)) as loader:
        return interleaved(_bare(first, loader), _distilled(second, loader, source), rounds=ROUNDS)


def _against_bare(name: str, world: World, student: StudentConfig) -> Measurement:
    ratio = _ratio(world, student, world.stored)
    return Measurement(
        what=f"training {name} at {SIZE} px from {TEACHERS} stored teachers, images/s against it bare",
        value=f"{ratio:.2f}",
        limit=f">= {LIMIT}",
        holds=ratio >= LIMIT,
    )


def _for_scale(world: World) -> Iterator[Measurement]:
    student = STUDENTS["nano"]
    model = build_student(student, base=Path(), seed=0)
    with closing(world.loader(model)) as loader:
        files = FilePerSample(world.stored, loader, world.folder / "files")
        batches = list(loader.batches(epoch=0))

        def through(source: _Outputs) -> Callable[[], None]:
            return lambda: [source.outputs(batch) for batch in batches] and None

        slower = interleaved(through(files), through(world.stored), rounds=ROUNDS)
        bare = min(seconds(_bare(model, loader)) for _ in range(2)) / IMAGES
    what = f"reading what {TEACHERS} teachers say: time of one `.pt` file a sample against the store"
    yield _beside(what, f"{slower:.1f}")
    device = PROCESSES.device
    teacher = timm.create_model("vit_base_patch16_224", num_classes=0).to(device).eval()
    pixels = torch.zeros(4 if device.type == "cpu" else BATCH, 3, SIZE, SIZE, device=device)
    with torch.inference_mode(), autocast(device, autocast_dtype("auto", device)):
        forward = min(seconds(lambda: teacher(pixels)) for _ in range(3)) / len(pixels)
    share = bare / (bare + TEACHERS * forward)
    what = (
        f"training nano with {TEACHERS} online ViT-B/16 image towers (one measured, times {TEACHERS}), "
        "images/s against the bare student"
    )
    yield _beside(what, f"{share:.3f}")


def _beside(what: str, value: str) -> Measurement:
    return Measurement(what=what, value=value, limit="none", holds=True)
