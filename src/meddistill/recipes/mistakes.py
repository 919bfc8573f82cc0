"""Everything that goes wrong in a row of attempts, as lines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from meddistill.errors import (
    ConfigError,
    MedDistillError,
    MissingExtra,
    NonFiniteError,
    TableError,
    UserError,
)

Result = TypeVar("Result")


class Mistakes:
    """Collects what goes wrong and goes on. `lines` has one for each mistake.

    `remedy`, of the first that has one, helps against many of them.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.remedy: str | None = None

    def catch(self, call: Callable[[], Result]) -> Result | None:
        """The result of `call`; None, and its mistakes in `lines`, where it refuses."""
        try:
            return call()
        except (ConfigError, TableError) as error:
            place = f"{error.subject}: "
            self.lines.extend(line if line.startswith(place) else place + line for line in error.mistakes)
            self.remedy = self.remedy or error.remedy
        except MedDistillError as error:
            self.lines.append(str(error))
        return None


def of_teacher(name: str, line: str) -> str:
    """A line about the recipe that trains a teacher, for readers of the recipe that names it."""
    return f"teacher `{name}`: {line}"


@contextmanager
def naming_teacher(name: str) -> Iterator[None]:
    """Put the teacher's name before what goes wrong in the recipe that trains it."""
    try:
        yield
    except (ConfigError, TableError) as error:
        subject = of_teacher(name, error.subject)
        raise type(error)(subject, error.mistakes, remedy=error.remedy) from error
    except MissingExtra:
        raise
    except (UserError, NonFiniteError) as error:
        raise type(error)(of_teacher(name, str(error))) from error
