"""Class vectors of a suite's zero-shot tasks, so that a bundle classifies without its text tower."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from meddistill.bundle.manifest import write_json
from meddistill.bundle_format import PROMPTS, Prompts
from meddistill.evaluation.tasks.classification.config import PLACEHOLDERS, ZeroShotConfig
from meddistill.students.dual_encoder import DualEncoder

_PLACE: Final = "{}"


def write_prompts(student: DualEncoder, folder: Path, *, tasks: Sequence[ZeroShotConfig]) -> None:
    """Write one file a task. The student is on the CPU, in evaluation mode."""
    for task in tasks:
        prompts = task.prompts()
        phrases = [entry for entry in task.classes.values() if isinstance(entry, str)]
        filled = len(phrases) == len(task.classes)
        record = Prompts(
            name=task.name,
            labels=tuple(phrases if filled else prompts),
            classes=tuple(prompts),
            templates=tuple(_with_place(template) for template in task.templates) if filled else (),
            prompts=tuple(prompts.values()),
            vectors=tuple(tuple(_class_vector(student, texts).tolist()) for texts in prompts.values()),
        )
        write_json(record, folder / PROMPTS / f"{task.name}.json")


@torch.no_grad()
def _class_vector(student: DualEncoder, texts: Sequence[str]) -> Float[Tensor, " dim"]:
    """v / |v| with v the mean of the prompts' embeddings of unit length (Radford et al. 2021, 3.1.4)."""
    embeddings = student.embed_tokens(student.tokenize(texts))
    return normalize(normalize(embeddings, dim=-1).mean(dim=0), dim=-1)


def _with_place(template: str) -> str:
    for placeholder in PLACEHOLDERS:
        template = template.replace(placeholder, _PLACE)
    return template
