"""Starting a student from a folder, for several tests."""

from pathlib import Path
from typing import Any

from meddistill.students.build import start_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.initial.start import Taken

SMALL_TEXT = {"width": 32, "heads": 2, "layers": 1, "context_length": 16}


def started(folder: Path, **config: Any) -> tuple[DualEncoder, Taken]:
    settings = {"init": str(folder), "text": SMALL_TEXT, **config}
    built = start_student(StudentConfig.model_validate(settings), base=folder.parent, seed=3)
    return built.student.eval(), built.taken
