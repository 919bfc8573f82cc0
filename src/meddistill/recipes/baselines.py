"""Models that an evaluation compares with a student and that the student learns nothing from. No torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from meddistill.strict import Strict
from meddistill.teachers.config import RunnableTeacher


class StudentFolder(Strict):
    """Another student, as a run's `student/`; its path alone says the same."""

    kind: Literal["student"]
    """Another student, as a run's `student/`; its path alone says the same."""
    folder: Path
    """Its folder."""


def _entry(value: Any) -> Any:
    return {"kind": "student", "folder": value} if isinstance(value, str | Path) else value


BaselineConfig = Annotated[
    RunnableTeacher | StudentFolder, Field(discriminator="kind"), BeforeValidator(_entry)
]
