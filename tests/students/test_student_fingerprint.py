"""What tells two students apart."""

from pathlib import Path

import torch

from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.fingerprint import student_fingerprint


def test_a_students_fingerprint_follows_its_weights() -> None:
    student, same = (build_student(StudentConfig(preset="tiny"), base=Path(), seed=0) for _ in range(2))
    before = student_fingerprint(student)
    assert student_fingerprint(same) == before
    with torch.no_grad():
        student.model.logit_scale += 0.1
    assert student_fingerprint(student) != before
