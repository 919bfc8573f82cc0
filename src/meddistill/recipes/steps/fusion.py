"""What becomes of a trained fusion network: one more teacher in the run's store."""

from pathlib import Path
from typing import Final

import numpy as np

from meddistill.data.keys import text_keys
from meddistill.features.derived import Derivation, write_derived
from meddistill.features.reader import FeatureStore
from meddistill.files import sha256_of
from meddistill.fusion.trainee import FusionTrainee
from meddistill.licences import join
from meddistill.recipes.derived import DerivedTeacher, fused_rows
from meddistill.recipes.schema import FusionStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training_data import StageRows
from meddistill.teachers.card import DERIVED, TeacherCard

_LIBRARY: Final = "meddistill"


def derive(
    session: Session, stage: FusionStage, trainee: FusionTrainee, rows: StageRows, *, weights: Path
) -> None:
    """Write the fused embeddings of the training table into the store, and let later stages see them."""
    card = derived_card(stage, trainee, rows, weights_sha256=sha256_of(weights))
    samples = session.samples
    masks = session.availability.masks
    available = {
        name: masks[name] if name in masks else session.derived[name].available for name in rows.cards
    }
    if session.is_main_process:
        store = FeatureStore.open(session.folder.features)
        texts = text_keys(samples) or ("",) * len(samples)
        derivation = Derivation(
            card=card,
            pairs=np.stack([store.image_rows(session.image_keys), store.text_rows(texts)], axis=1),
            available=available,
            by_pair=stage.by_pair,
            precision=session.recipe.features.precision,
        )
        trainee.eval()
        write_derived(
            store,
            stage.name,
            derivation,
            trainee.network.fused,
            device=session.processes.device,
            progress=session.progress,
        )
    session.processes.wait()
    there = fused_rows(rows.cards, available, samples.captioned, by_pair=stage.by_pair)
    session.derived[stage.name] = DerivedTeacher(card=card, available=there)


def derived_card(
    stage: FusionStage, trainee: FusionTrainee, rows: StageRows, *, weights_sha256: str
) -> TeacherCard:
    """The card of what a fusion stage derives.

    Its fingerprint is that of the network's weights and of its sources, its licence the join of theirs.
    """
    cards = rows.cards
    modalities = [card.modalities for card in cards.values()]
    known = [each for each in modalities if each is not None]
    return TeacherCard(
        id=stage.name,
        kind=DERIVED,
        source=" + ".join(cards),
        library=_LIBRARY,
        weights_sha256=weights_sha256,
        licence=join(card.licence for card in cards.values()),
        image_dim=stage.dim,
        text_dim=stage.dim,
        logit_scale=trainee.log_scale.exp().item(),
        signals=frozenset({"image", "text"}),
        modalities=tuple(sorted({name for each in known for name in each}))
        if len(known) == len(modalities)
        else None,
        pretraining_data=tuple(
            dict.fromkeys(name for card in cards.values() for name in card.pretraining_data)
        ),
        options={
            "inputs": stage.inputs,
            "network": stage.network,
            **{f"source {name}": card.fingerprint for name, card in cards.items()},
        },
        parameters=sum(each.numel() for each in trainee.network.parameters()),
    )
