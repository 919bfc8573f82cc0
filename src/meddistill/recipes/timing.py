"""How long models take on this machine, measured on a few blank images; for estimates."""

import time
from collections.abc import Callable

import torch

from meddistill.students.dual_encoder import DualEncoder
from meddistill.teachers.frozen import FrozenTeacher

IMAGES = 8


def seconds_per_image_of_teacher(teacher: FrozenTeacher) -> float:
    """Seconds of one forward pass an image and caption."""
    spec, signals = teacher.card.input, teacher.card.signals

    def forward() -> None:
        if spec is not None and "image" in signals:
            teacher.image_embeddings(torch.zeros(IMAGES, spec.height, spec.width, 3, dtype=torch.uint8))
        if "text" in signals:
            teacher.text_embeddings(["an image of the chest"] * IMAGES)

    return _seconds(forward) / IMAGES


def seconds_per_image_of_student(student: DualEncoder) -> float:
    """Seconds of forward and backward a pair of image and caption."""
    spec = student.input
    rasters = torch.zeros(IMAGES, spec.height, spec.width, 3, dtype=torch.uint8)
    tokens = student.tokenize(["an image of the chest"] * IMAGES)

    def step() -> None:
        (student.embed_images(rasters).sum() + student.embed_tokens(tokens).sum()).backward()

    return _seconds(step) / IMAGES


def _seconds(call: Callable[[], None], *, repeats: int = 2) -> float:
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
