"""Zero-shot classes of the phantom's classification tasks: labels, phrases, templates."""

from meddistill.data.phantom.config import MODALITIES, Modality
from meddistill.data.phantom.vocabulary import WORDS
from meddistill.errors import ConfigError

MODALITY_TASK = "modality"
_SUFFIX = "_finding"
_SUBJECT = "phantom prompts"


def finding_task(modality: Modality) -> str:
    """The name of a modality's finding task, such as `xray_finding`."""
    return f"{modality}{_SUFFIX}"


def tasks(modalities: tuple[Modality, ...] = MODALITIES) -> tuple[str, ...]:
    """All classification tasks of a phantom: which modality, then which finding within each."""
    return (MODALITY_TASK, *(finding_task(modality) for modality in modalities))


def prompts(task: str) -> dict[str, str]:
    """Label to phrase for every class of a task; the labels are those of `classification.csv`.

    Raises ConfigError for a task that no phantom has.
    """
    if task == MODALITY_TASK:
        return {words.label: words.label for words in WORDS.values()}
    return {finding.label: finding.label for finding in WORDS[_modality(task)].findings}


def templates(task: str) -> tuple[str, ...]:
    """Prompt templates of a task, each with one `{}` for the phrase."""
    if task == MODALITY_TASK:
        return ("{}", "a {}.", "{} of a patient.", "this is a {}.")
    label = WORDS[_modality(task)].label
    return (f"{label} showing {{}}.", f"{label} with {{}}.", f"{{}} on a {label}.", f"{label} reveals {{}}.")


def _modality(task: str) -> Modality:
    for modality in MODALITIES:
        if task == finding_task(modality):
            return modality
    msg = f"`task` must be one of the phantom's; got {task!r}. Choose among {', '.join(tasks())}."
    raise ConfigError(_SUBJECT, (msg,))
