"""Twelve rows as a method sees them: the toy student's embeddings, what the toy teachers say, one step."""

from dataclasses import replace

import torch

from meddistill.methods.base import Method
from meddistill.methods.step import StepLoss
from meddistill.records import StudentOutputs, TeacherOutputs, positives
from toy_training import DEVICE, TEACHER_DIMS, ToyStudent, ToyTeachers, toy_batch

ROWS = range(12)


def outputs(names=TEACHER_DIMS, absent=(), rows=ROWS, gaps=False) -> dict[str, TeacherOutputs]:
    found = ToyTeachers(names, absent=absent, gaps=gaps).outputs(toy_batch(rows))
    return {
        name: replace(each, **{field: rows.to(DEVICE) for field, rows in each.per_row().items()})
        for name, each in found.items()
    }


def available_where(each: TeacherOutputs, rows: torch.Tensor) -> TeacherOutputs:
    """With both towers of these rows, and none of the others."""
    return replace(each, image_available=rows, text_available=rows)


def available_everywhere() -> dict[str, TeacherOutputs]:
    everyone = torch.ones(len(ROWS), device=DEVICE).bool()
    return {name: available_where(each, everyone) for name, each in outputs().items()}


def embeddings(rows=ROWS) -> StudentOutputs:
    batch = toy_batch(rows)
    found = ToyStudent()(batch)
    return StudentOutputs(
        image=found.image.detach().to(DEVICE).requires_grad_(),
        text=found.text.detach().to(DEVICE).requires_grad_(),
        logit_scale=found.logit_scale.detach().to(DEVICE).requires_grad_(),
    )


def which_positives(rows=ROWS) -> torch.Tensor:
    batch = toy_batch(rows)
    return positives(batch.image_group, batch.text_group).to(DEVICE)


def step(
    method: Method, student: StudentOutputs, teachers: dict[str, TeacherOutputs], seed: int = 0, rows=ROWS
) -> StepLoss:
    generator = torch.Generator().manual_seed(seed)
    return method.to(DEVICE).loss(student, teachers, positives=which_positives(rows), generator=generator)


def assert_only_shares_change(method: Method) -> None:
    """Row 0 loses gamma: alpha and beta go from a third to a half there, and nothing else changes."""
    features = available_everywhere()

    def gradient(names_in_row_0: list[str]) -> torch.Tensor:
        student = embeddings()
        some = torch.ones(len(ROWS), device=DEVICE).bool()
        some[0] = False
        given = {
            name: each if name in names_in_row_0 else available_where(each, some)
            for name, each in features.items()
        }
        step(method, student, given).total.backward()
        return student.image.grad

    alone = {name: gradient([name]) for name in TEACHER_DIMS}
    three, two = gradient(list(TEACHER_DIMS)), gradient(["alpha", "beta"])
    torch.testing.assert_close(three[1:], two[1:])
    torch.testing.assert_close(two[0], (alone["alpha"][0] + alone["beta"][0]) / 2)
    torch.testing.assert_close(three[0], (alone["alpha"][0] + alone["beta"][0] + alone["gamma"][0]) / 3)
