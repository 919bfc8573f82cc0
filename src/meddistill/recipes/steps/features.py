"""The teachers' outputs for the training table, extracted once."""

from functools import partial
from typing import Final

from meddistill.errors import StoreError
from meddistill.features.extract import extract
from meddistill.features.files import MANIFEST
from meddistill.features.importing.cards import IMPORTED
from meddistill.features.reader import FeatureStore
from meddistill.features.writer import forget_teacher
from meddistill.recipes.run_folder import digest
from meddistill.recipes.session import Session

# Of `features`, what changes no stored number.
_NOT_STORED: Final = ("batch_size", "workers", "availability", "banks")


def extract_features(session: Session) -> None:
    """Fill the run's feature store, unless no stage needs teachers or they run online."""
    recipe = session.recipe
    if not recipe.needs_teachers or recipe.features.source == "online":
        return
    if recipe.given_store is not None:
        _look_at_given(session)
        return
    inputs = {
        "teachers": session.teacher_inputs,
        "data": digest([session.samples.table_hash, session.image_keys]),
        **session.validation_inputs,
        "features": recipe.features.model_dump(mode="json", exclude=set(_NOT_STORED)),
        **({"banks": session.banks.fingerprints} if session.banks.read else {}),
    }
    _forget_changed(session)
    work = partial(
        extract,
        session.folder.features,
        # At once: an extraction that was interrupted goes on only with rows that it is shown.
        session.stored_samples,
        session.teachers,
        recipe.features,
        progress=session.progress,
        banks={"bank": session.banks.texts},
    )
    session.run_step("features", inputs, work, there=_are_there(session))


def _forget_changed(session: Session) -> None:
    """Drop what the store has of a teacher that this run has trained anew since."""
    path = session.folder.features
    if not (path / MANIFEST).is_file():
        return
    store = FeatureStore.open(path)
    for name in session.teacher_runs:
        if name in store.teachers and store.card(name).difference(session.teachers[name].card):
            session.progress.say(f"features: those of {name} are dropped, since it was trained anew")
            forget_teacher(path, name)


def _look_at_given(session: Session) -> None:
    """Refuse a store of others that is not complete, or whose rows of zeros would be learnt from."""
    store = FeatureStore.open(session.folder.features)
    if not store.holds_all_of(session.teachers):
        msg = (
            f"`{store.path}` must be complete; it lacks rows of a teacher. Go on with what was making it: "
            "`meddistill features import` or `meddistill extract`."
        )
        raise StoreError(msg)
    imported = [name for name, teacher in session.teachers.items() if teacher.card.library == IMPORTED]
    if imported and session.recipe.features.availability.column is None:
        msg = (
            "`features.availability.column` must name the table's column of teachers for imported features, "
            f"which lack rows of {', '.join(imported)}; got none. Their table has it: `column: teachers`."
        )
        raise StoreError(msg)
    session.progress.say(f"features: read from {store.path.name}")


def _are_there(session: Session) -> bool:
    """Whether the store lacks nothing; a repair leaves one that has lost its damaged shards."""
    path = session.folder.features
    return (path / MANIFEST).is_file() and FeatureStore.open(path).holds_all_of(session.teachers)
