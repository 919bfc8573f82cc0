"""What becomes of a trained fusion network: one more teacher in the run's store, where it is worth it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from meddistill.data.keys import text_keys
from meddistill.data.samples import Samples
from meddistill.errors import CheckpointError
from meddistill.features.availability import Mask, availability
from meddistill.features.derived import Derivation, remove_derived, write_derived
from meddistill.features.reader import FeatureStore
from meddistill.files import sha256_of, write_whole
from meddistill.fusion.network import unfusable
from meddistill.fusion.trainee import FusionTrainee
from meddistill.licences import join
from meddistill.methods.base import TeacherSpace
from meddistill.recipes.derived import SOURCES_JOINED, DerivedTeacher, with_derived
from meddistill.recipes.fused_recall import FusedRecall, FusionScore
from meddistill.recipes.schema import AnyStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training_data import StageRows
from meddistill.signals import TOWERS
from meddistill.teachers.card import DERIVED, TeacherCard
from meddistill.training.validation import Validation

FUSION_FILE: Final = "fusion.json"
_LIBRARY: Final = "meddistill"
_UNMEASURED: Final = "kept unmeasured: its embeddings were held against no validation pairs"


def fused_recall(session: Session, stage: AnyStage, rows: StageRows) -> FusedRecall | None:
    """The pairs of `data.validation` that the stage's network is measured on; None where it is on none."""
    validation = session.validation
    if stage.derived_dim is None or stage.by_pair or validation is None:
        return None
    return FusedRecall(
        FeatureStore.open(session.folder.features),
        validation,
        session.validation_keys,
        cards=rows.cards,
        available=_available(session, rows.cards, validation, session.validation_keys),
        device=session.processes.device,
    )


def leave_out(session: Session, stage: AnyStage) -> bool:
    """Whether the stage is skipped, for of its teachers so many were left out that none can be fused.

    What it fuses is left out too then, and what an earlier run made of it goes.
    """
    named = session.recipe.teachers_of(stage)
    missing = [name for name in named if name in session.left_out]
    cards = {**session.cards, **{name: each.card for name, each in session.derived.items()}}
    left = {name: TeacherSpace.of(cards[name]) for name in named if name in cards}
    if not missing or not unfusable(left):
        return False
    session.left_out.add(stage.name)
    if session.is_main_process:
        remove_derived(FeatureStore.open(session.folder.features), stage.name)
        (session.folder.stage(stage.name) / FUSION_FILE).unlink(missing_ok=True)
        session.progress.say(
            f"stage {stage.name}: left out: without {', '.join(missing)}, whose fused embeddings were left "
            f"out, it has nothing to fuse but {', '.join(left)}; later stages go on without it"
        )
    session.processes.wait()
    return True


def validation_of(stage: AnyStage, trainee: nn.Module, recall: FusedRecall | None) -> Validation | None:
    """How the stage selects its epoch."""
    if recall is None or not isinstance(trainee, FusionTrainee):
        return None
    return Validation(measure=lambda _: recall.of_network(trainee), patience=stage.stops_after)


def derive(
    session: Session,
    stage: AnyStage,
    trainee: FusionTrainee,
    rows: StageRows,
    *,
    weights: Path,
    recall: FusedRecall | None,
) -> None:
    """Write the fused embeddings into the store and let later stages see them, unless they are no better.

    They are where, on the validation pairs that a teacher with both towers has, they retrieve better than it
    does, for every such teacher. Without `data.validation` they are kept unseen.
    """
    card = derived_card(stage, trainee, rows, weights_sha256=sha256_of(weights))
    score = None
    if session.is_main_process:
        trainee.eval()
        score = None if recall is None else recall.evaluate(trainee)
        store = FeatureStore.open(session.folder.features)
        if score is None or score.kept:
            write_derived(
                store,
                stage.name,
                _derivation(session, stage, rows, store=store, card=card),
                trainee.network.fused,
                device=session.processes.device,
                progress=session.progress,
            )
        else:
            remove_derived(store, stage.name)
        _write(session.folder.stage(stage.name) / FUSION_FILE, card, score)
        for _, sentence in _facts(stage, score):
            session.progress.say(f"stage {stage.name}: {sentence}")
    score = session.processes.from_main(score)
    if score is None or score.kept:
        session.derived[stage.name] = DerivedTeacher(
            card=card, space=TeacherSpace.of(card), sources=tuple(rows.cards), by_pair=stage.by_pair
        )
    else:
        session.left_out.add(stage.name)


def fusion_facts(session: Session) -> list[tuple[str, str]]:
    """For the report: a line for every fusion stage that has a result."""
    facts = []
    for stage in session.recipe.stages:
        path = session.folder.stage(stage.name) / FUSION_FILE
        if stage.derived_dim is not None and path.is_file():
            content = json.loads(path.read_bytes())["score"]
            facts += _facts(stage, None if content is None else FusionScore.model_validate(content))
    return facts


def _facts(stage: AnyStage, score: FusionScore | None) -> list[tuple[str, str]]:
    return [(f"Fusion {stage.name}", _UNMEASURED if score is None else score.sentence())]


def _write(path: Path, card: TeacherCard, score: FusionScore | None) -> None:
    content = {
        "teacher": card.model_dump(mode="json"),
        "score": None if score is None else score.model_dump(mode="json"),
    }
    write_whole(path, json.dumps(content, indent=1).encode(), error=CheckpointError)


def _derivation(
    session: Session, stage: AnyStage, rows: StageRows, *, store: FeatureStore, card: TeacherCard
) -> Derivation:
    """Of all rows of the training table, and of those of the validation table where there is one."""
    keys = session.image_keys
    available = _available(session, rows.cards, session.samples, keys)
    if session.validation is not None:
        more = _available(session, rows.cards, session.validation, session.validation_keys)
        available = {name: np.concatenate([mask, more[name]]) for name, mask in available.items()}
        keys += session.validation_keys
    return Derivation(
        card=card,
        pairs=store.pairs_of(keys, text_keys(session.stored_samples)),
        available=available,
        by_pair=stage.by_pair,
        precision=session.recipe.features.precision,
    )


def _available(
    session: Session, cards: Mapping[str, TeacherCard], samples: Samples, keys: tuple[str, ...]
) -> dict[str, Mask]:
    """Which of `samples` each teacher is available for."""
    rules = session.recipe.features.availability
    own = session.cards
    masks = session.availability.masks
    if samples is not session.samples:
        store = None if rules.agreement_quantile is None else FeatureStore.open(session.folder.features)
        thresholds = session.availability.thresholds
        masks = availability(samples, own, rules, store=store, keys=keys, thresholds=thresholds).masks
    available = with_derived(masks, own, session.derived, samples.captioned)
    return {name: available[name] for name in cards}


def derived_card(
    stage: AnyStage, trainee: FusionTrainee, rows: StageRows, *, weights_sha256: str
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
        source=SOURCES_JOINED.join(cards),
        library=_LIBRARY,
        weights_sha256=weights_sha256,
        licence=join(card.licence for card in cards.values()),
        dims=dict.fromkeys(TOWERS, trainee.network.config.dim),
        logit_scale=trainee.log_scale.exp().item(),
        signals=frozenset({"image", "text"}),
        modalities=tuple(sorted({name for each in known for name in each}))
        if len(known) == len(modalities)
        else None,
        pretraining_data=tuple(
            dict.fromkeys(name for card in cards.values() for name in card.pretraining_data)
        ),
        options={
            "inputs": trainee.network.config.inputs,
            "network": trainee.network.config.network,
            **{f"source {name}": card.fingerprint for name, card in cards.items()},
        },
        parameters=sum(each.numel() for each in trainee.network.parameters()),
    )
