"""What a command line asks to evaluate: models and a suite, before any library of models is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.mistakes import Mistakes
from meddistill.recipes.validate import validated
from meddistill.recipes.yaml_file import read_yaml
from meddistill.standalone.named_models import NamedModel, find_models

_SUBJECT: Final = "evaluate"


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """Models and the suite that they are tested on; its paths start at `base`, `student` is one of them."""

    models: tuple[NamedModel, ...]
    student: str
    suite: SuiteConfig
    base: Path


def parse_request(words: Sequence[str], suite: Path, *, student: str | None = None) -> EvaluationRequest:
    """What `words` and the file `suite` name; without `student` the first model is the one.

    Raises ConfigError with all that is wrong with them; tables and weights are not looked at.
    """
    mistakes = Mistakes()
    config = mistakes.catch(lambda: validated(SuiteConfig, read_yaml(suite), subject=str(suite)))
    models = mistakes.catch(partial(find_models, words)) or []
    names = [each.name for each in models]
    if models and student is not None and student not in names:
        mistakes.lines.append(f"`--student` must be one of {', '.join(names)}; got {student!r}.")
    if mistakes.lines or config is None:
        raise ConfigError(_SUBJECT, mistakes.lines)
    return EvaluationRequest(
        models=tuple(models), student=student or names[0], suite=config, base=suite.parent
    )
