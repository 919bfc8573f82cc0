"""The audit: every teacher of a store evaluated and compared before anything is trained."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from meddistill.arrays import Floats32
from meddistill.errors import StoreError
from meddistill.evaluation.audit.checks import AuditCheck, main_of, parts_of
from meddistill.evaluation.audit.likeness import likenesses, redundancies
from meddistill.evaluation.audit.order import Ensembles, Referee
from meddistill.evaluation.audit.pairing import pairing_note, pairings
from meddistill.evaluation.audit.record import ENSEMBLE, Audit, AuditScore
from meddistill.evaluation.audit.sample import choose
from meddistill.evaluation.audit.spaces import Space, complete_teachers, read_spaces
from meddistill.evaluation.base.bootstrap import Resampler, Weights, estimate
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.features.format import Table
from meddistill.features.reader import FeatureStore
from meddistill.progress import Progress, SilentProgress
from meddistill.signals import TOWERS

ROWS = 2000
RESAMPLES = 300
TABLES: tuple[Table, ...] = ("images", "texts", "pairs")
RULE = (
    "Retrieval: mean of hit@1, 5 and 10, image to text and back, among the images of one modality and their "
    "captions; every caption that the store pairs with an image is a right answer. Zero-shot: captions that "
    "ten or more images share are the classes; balanced accuracy. Modality: which modality an image is of, "
    "by the mean caption of each, the image's own captions left out; balanced accuracy. Intervals resample "
    "images, since a store knows no patients: where a patient has several images they are too narrow. The "
    "ensemble averages the teachers' standardised similarities; the teacher to drop is the most redundant of "
    "those whose loss is within one standard error of the smallest."
)


def audit_store(
    store: FeatureStore,
    teachers: Sequence[str] | None = None,
    *,
    rows: int = ROWS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Audit:
    """Evaluate the teachers of a store by the store alone.

    Parameters
    ----------
    teachers
        Which to evaluate; by default all.
    rows
        Of a store with more images or texts, so many are drawn (see `sample.choose`).
    seed
        Of that draw and of the resamples.

    Raises
    ------
    StoreError
        If no teacher is complete, or a shard is damaged.
    """
    progress = progress or SilentProgress()
    complete, notes = complete_teachers(store, store.teachers if teachers is None else teachers)
    names = _with_rows_of_their_own(store, complete)
    sample = choose(store, rows, seed)
    off_diagonal = tuple(pairings(store, complete, sample, seed=seed))
    spaces = list(read_spaces(store, names, sample, progress=progress))
    sources = [space for space in spaces if not space.is_derived]  # a derived one goes with what it is of
    config = BootstrapConfig(resamples=RESAMPLES, seed=seed)
    weights = Resampler(config).weights(np.arange(len(sample.image_rows)))
    parts = list(parts_of(sample))
    with progress.track("audit: likeness", len(TOWERS), unit="towers") as advance:
        likeness = tuple(likenesses(spaces, sample, advance=advance))
    mixtures, redundancy = redundancies(sources)
    ensembles = Ensembles(sources, parts, weights)
    referee = Referee(ensembles, mixtures, [space.name for space in sources], level=config.level)
    with progress.track("audit: leaving out", len(referee.names), unit="teachers") as advance:
        order = tuple(referee.order(advance=advance))
    return Audit(
        store=fingerprint(store, names),
        seed=seed,
        resamples=config.resamples,
        level=config.level,
        held={table: store.manifest.rows(table) for table in TABLES},
        **sample.counts(),
        teachers=tuple(space.facts() for space in spaces),
        scores=tuple(_scores(spaces, parts, weights, level=config.level)),
        ensemble=tuple(_ensemble_scores(ensembles, parts, weights, level=config.level)),
        likeness=likeness,
        redundancy=redundancy,
        quality=ensembles.whole,
        first_round=tuple(referee.round(referee.names)),
        order=order,
        off_diagonal=off_diagonal,
        rule=RULE,
        notes=(*notes, *map(pairing_note, off_diagonal), *_notes(spaces, parts, referee.names)),
    )


def fingerprint(store: FeatureStore, teachers: Sequence[str]) -> str:
    """Sixteen hex digits that change with the rows of a store, or with what these teachers said of them."""
    digest = hashlib.sha256(store.manifest.model_dump_json(include={"settings", "segments"}).encode())
    for name in teachers:
        facts = [name, store.card(name).fingerprint, str(store.card(name).modalities)]
        digest.update("\0".join([*facts, *(file.sha256 for file in store.files(name))]).encode())
    return digest.hexdigest()[:16]


def _with_rows_of_their_own(store: FeatureStore, complete: Sequence[str]) -> list[str]:
    """Those of the teachers that have rows of images and texts; one by pair is compared with no other."""
    names = [name for name in complete if not store.by_pair(name)]
    if not names:
        msg = f"`{store.path}` must hold a teacher with all of its rows; it has none. Extract first."
        raise StoreError(msg)
    return names


def _scores(
    spaces: Sequence[Space], parts: Sequence[AuditCheck], weights: Weights, *, level: float
) -> Iterator[AuditScore]:
    for space in spaces:
        if not space.is_dual:
            continue
        for part in parts:
            mine = part.narrowed(space)
            if mine is not None:
                yield _score(space.name, mine, mine.similarities(space)[0], weights, level=level)


def _ensemble_scores(
    ensembles: Ensembles, parts: Sequence[AuditCheck], weights: Weights, *, level: float
) -> Iterator[AuditScore]:
    """The whole ensemble on the parts that its quality is the mean of, and on those of all images."""
    if len(ensembles.members) < 2:
        return
    for part in parts:
        yield _score(ENSEMBLE, part, ensembles.similarities(part), weights, level=level)


def _score(
    name: str, part: AuditCheck, similarity: Floats32, weights: Weights, *, level: float
) -> AuditScore:
    metrics = part.replicates(similarity, weights)
    interval = estimate(main_of(metrics), patients=len(part.images), level=level)
    return AuditScore(
        teacher=name,
        family=part.family,
        modality=part.modality,
        value=interval.value or 0.0,
        low=interval.low,
        high=interval.high,
        chance=part.chance(),
        images=len(part.images),
        answers=part.answers,
        details={metric: float(values[0]) for metric, values in metrics.items()},
    )


def _notes(spaces: Sequence[Space], parts: Sequence[AuditCheck], evaluated: Sequence[str]) -> Iterator[str]:
    for space in spaces:
        if space.is_derived:
            yield (
                f"{space.name} is made from other teachers and goes with them: it is no candidate to drop, "
                "and no part of the ensemble and of redundancy."
            )
        if not space.is_dual:
            held = " and ".join(space.vectors)
            yield (
                f"{space.name} holds {held} vectors that cannot be compared with one another: it has no "
                "scores here and is compared by its space alone."
            )
    families = {part.family for part in parts}
    if not parts:
        yield "Too few images are paired with captions for scores; teachers are compared by their spaces."
    elif "zero_shot" not in families:
        yield "No two captions are shared by ten images each, so that there are no classes for zero-shot."
    if len(evaluated) < 2:
        yield "There is no other teacher to compare with."
