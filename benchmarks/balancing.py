"""What weights in the space of gradients cost: a step with them against the same step with equal weights.

A student of ViT-Tiny size at 224 px with stored teachers and batch negatives; loading is left out. Beside it,
for scale, the same rule by torchjd over the student's parameters, which needs a backward pass through the
student for each teacher.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import torch
from torchjd import autojac
from torchjd.aggregation import MGDA

from benchmarks.linear_teacher import load_linear_teachers
from benchmarks.measure import Measurement, interleaved
from benchmarks.training import BATCH, DIM, PROCESSES, STUDENTS, World
from meddistill.features.config import ExtractOptions
from meddistill.features.extract import extract
from meddistill.features.sources import StoredTeachers
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from meddistill.records import Batch, positives
from meddistill.students.build import build_student
from meddistill.students.dual_encoder import DualEncoder
from meddistill.training.batches import on_device
from meddistill.training.gradients import GradientStep, StepSettings
from meddistill.training.log import Meter

LIMITS = {2: 1.05, 9: 1.10}
ROUNDS = 7
# Those of the recipe `ammkd`, but for the queue (class vectors are those of the batch's own captions), with a
# scale for these teachers, which have none of their own.
OBJECTIVES = {
    "contrastive": 1.0,
    "similarity_kl": {"weight": 1.0, "merge_positives": True, "teacher_scale": 100.0},
    "class_vector_kl": {"weight": 1.0, "negatives": "batch", "temperature": 2.0, "teacher_scale": 100.0},
    "feature_mse": 50.0,
}


def run() -> list[Measurement]:
    """Time of a step against equal weights, for two and for nine teachers."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        return [found for number in LIMITS for found in _of(world, number)]


def _of(world: World, number: int) -> Iterator[Measurement]:
    teachers = load_linear_teachers(number, dim=DIM)
    store = extract(world.folder / f"store {number}", world.samples, teachers, ExtractOptions())
    source = StoredTeachers(store, world.samples, tuple(teachers), device=PROCESSES.device)
    student = build_student(STUDENTS["ViT-Tiny"], base=Path(), seed=0).to(PROCESSES.device).train()
    with closing(world.loader(student)) as loader:
        batch = next(iter(loader.batches(epoch=0)))
    equal = _step(student, _method(student, number, "uniform"), source, batch)
    shortest = _step(student, _method(student, number, "min_norm"), source, batch)
    ratio = interleaved(shortest, equal, rounds=ROUNDS)
    what = f"a step of ViT-Tiny with {number} stored teachers, batch of {BATCH}"
    yield Measurement(
        what=f"{what}: time with min_norm against equal weights",
        value=f"{ratio:.3f}",
        limit=f"<= {LIMITS[number]:.2f}",
        holds=ratio <= LIMITS[number],
    )
    ratio = interleaved(_over_parameters(student, number, source, batch), equal, rounds=2)
    yield Measurement(
        what=f"{what}: time with torchjd's MGDA over the student's parameters against equal weights",
        value=f"{ratio:.2f}",
        limit="none",
        holds=True,
    )


def _method(student: DualEncoder, number: int, weighting: str) -> Method:
    return _built(student, [f"teacher_{place}" for place in range(number)], weighting)


def _built(student: DualEncoder, names: list[str], weighting: str) -> Method:
    content = {"method": "embedding", "objectives": OBJECTIVES, "weighting": {"kind": weighting}}
    spaces = {name: TeacherSpace(dims={"image": DIM, "text": DIM}, logit_scale=100.0) for name in names}
    config = EmbeddingConfig.model_validate(content)
    return build_method(config, student_dim=student.embed_dim, teachers=spaces, seed=0).to(PROCESSES.device)


def _step(student: DualEncoder, method: Method, source: StoredTeachers, batch: Batch) -> Callable[[], None]:
    step = GradientStep(
        student=student, method=method, source=source, processes=PROCESSES, settings=StepSettings()
    )
    meter = Meter(method.teachers)

    def once() -> None:
        student.zero_grad()
        method.zero_grad()
        meter.add(step(batch, step=0), torch.zeros((), device=PROCESSES.device))

    return once


def _over_parameters(
    student: DualEncoder, number: int, source: StoredTeachers, batch: Batch
) -> Callable[[], None]:
    methods = [_built(student, [f"teacher_{place}"], "uniform") for place in range(number)]
    generator = torch.Generator()
    parameters = [each for each in student.parameters() if each.requires_grad]
    batch = on_device(batch, PROCESSES.device)
    same = positives(batch.image_group, batch.text_group)

    def once() -> None:
        outputs, teachers = student(batch, shown={}), source.outputs(batch)
        losses = [
            method.loss(outputs, teachers, positives=same, generator=generator).total for method in methods
        ]
        autojac.backward(losses, inputs=parameters, parallel_chunk_size=1)
        autojac.jac_to_grad(parameters, MGDA())

    return once
