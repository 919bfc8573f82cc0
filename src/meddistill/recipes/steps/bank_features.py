"""The class vectors of a stage: what its teachers gave for the texts of its banks."""

import numpy as np
import torch
from torch import Tensor

from meddistill.errors import ConfigError
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.recipes.schema import AnyStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training_data import StageRows

_LEAST_VECTORS = 2


def bank_features(session: Session, stage: AnyStage, rows: StageRows) -> dict[str, dict[str, Tensor]]:
    """Teacher → bank → its stored features of the texts, `[texts, dim]`, of those that the stage weighs.

    A row of zeros says that a teacher has nothing of a text (it was imported without it, or no source of a
    fused one was available) and is no class: it is left out, and told. Raises ConfigError where a teacher is
    left with fewer than two.
    """
    if not stage.banks:
        return {}
    store = FeatureStore.open(session.folder.features)
    vectors_of: dict[str, dict[str, Tensor]] = {}
    mistakes: list[str] = []
    for bank in stage.banks:
        places = store.text_rows(session.bank(bank).keys)
        for teacher in stage.weighted_teachers(rows.cards):
            vectors = _without_zeros(store, teacher, places)
            vectors_of.setdefault(teacher, {})[bank] = vectors
            count = f"teacher {teacher} has {len(vectors):,} of {len(places):,} texts of the bank {bank}"
            if len(vectors) < _LEAST_VECTORS:
                mistakes.append(
                    f"`bank` must leave every teacher {_LEAST_VECTORS} class vectors at least; {count}. Name "
                    "another bank, or the stage's `teachers` without it."
                )
            elif len(vectors) < len(places) and session.is_main_process:
                session.progress.say(f"stage {stage.name}: {count}; the others are no classes of its")
    ConfigError.raise_any(f"stage {stage.name}", mistakes)
    return vectors_of


def _without_zeros(store: FeatureStore, teacher: str, rows: Indices) -> Tensor:
    read = store.read(teacher, "text", rows).astype(np.float32)
    return torch.from_numpy(read[read.any(axis=1)])
