"""What tells two students apart."""

from pathlib import Path

import torch

from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.fingerprint import student_fingerprint
from meddistill.students.tokenizers import ClipTokenizer


def test_a_students_fingerprint_follows_its_weights() -> None:
    student, same = (build_student(StudentConfig(preset="tiny"), base=Path(), seed=0) for _ in range(2))
    before = student_fingerprint(student)
    assert student_fingerprint(same) == before
    with torch.no_grad():
        student.model.logit_scale += 0.1
    assert student_fingerprint(student) != before


def test_it_follows_what_the_tokenizer_makes_of_captions_and_not_the_name_of_its_class() -> None:
    student = build_student(StudentConfig(preset="tiny"), base=Path(), seed=0)
    before = student_fingerprint(student)

    class Renamed(ClipTokenizer):
        pass

    class Other(ClipTokenizer):
        def __call__(self, texts):
            return super().__call__([text.replace("histology", "pathology").lower()[::-1] for text in texts])

    student.tokenizer = Renamed(student.context_length)
    assert student_fingerprint(student) == before
    student.tokenizer = Other(student.context_length)
    assert student_fingerprint(student) != before
