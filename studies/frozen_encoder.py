"""A text tower, and a projection of images, trained on an image tower that stays as it is.

The recipe is that of a student which starts from the image tower's weights and learns alone.
"""

from typing import Any

from torch import nn

from meddistill.recipes.session import Session
from meddistill.recipes.steps.training import train_stages
from meddistill.recipes.tokenizer import keep_tokenizer
from meddistill.students.initial.timm_folder import TRUNK, classifier_of


def train_on_frozen(session: Session) -> None:
    """Train a run's student with its timm tower frozen, batch statistics included, but for the projection."""
    size = session.recipe.student.text.vocabulary
    with session.processes_folder(shared=False):
        if session.tokenizer is not None and size is not None:
            keep_tokenizer(
                session.tokenizer, session.samples, size, folder=session.folder, progress=session.progress
            )
        freeze(session.student.model)
        train_stages(session)


def freeze(model: Any) -> None:
    """Freeze a timm tower but for its classifier, which is the projection."""
    trained = classifier_of(model)
    for name, parameter in model.visual.trunk.named_parameters():
        parameter.requires_grad_(f"{TRUNK}{name}" in trained)
    # The training loop puts the whole student into training mode; batch statistics must not move.
    model.visual.trunk.register_forward_pre_hook(_in_evaluation_mode)


def _in_evaluation_mode(module: nn.Module, _: object) -> None:
    module.eval()
