"""The audit of a run's teachers, by its feature store alone."""

from pathlib import Path

from meddistill.errors import UserError
from meddistill.evaluation.audit.audit import ROWS, audit_store, fingerprint
from meddistill.evaluation.audit.record import VERSION, Audit
from meddistill.features.files import MANIFEST
from meddistill.features.reader import FeatureStore
from meddistill.progress import Progress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.run_folder import store_of
from meddistill.recipes.session import Session

_SEED = 0
_LEAST_ROWS = 50


def audit_run(session: Session) -> Audit | None:
    """Audit the recipe's teachers, unless it is done; None for a run without a store of two or more."""
    folder = session.folder
    if not (folder.features / MANIFEST).is_file() or not session.recipe.needs_teachers:
        return None
    store = FeatureStore.open(folder.features)
    names = [name for name in session.recipe.teachers if name in store.teachers]
    if len(names) < 2 or not store.holds_all_of(names):
        return None
    inputs = {"store": fingerprint(store, names), "rows": ROWS, "seed": _SEED, "version": VERSION}

    def work() -> None:
        audit_store(store, names, rows=ROWS, seed=_SEED, progress=session.progress).save(folder.path)

    session.run_step("audit", inputs, work, files=[folder.audit], there=folder.audit.is_file())
    return Audit.load(folder.path)


def audit_place(place: Path, *, rows: int, seed: int, progress: Progress) -> tuple[Audit, Path]:
    """Audit all teachers of a store, of a run folder's store, or of the store of a recipe's run.

    Returns the audit and the file that it was written to: `audit.json` in the store, or in the run folder.

    Raises
    ------
    UserError
        If there is no store, or `rows` is too small to compare anything.
    """
    if rows < _LEAST_ROWS:
        msg = f"`--rows` must be at least {_LEAST_ROWS}; got {rows}. Fewer images show too little."
        raise UserError(msg)
    folder = place if place.is_dir() else Path("runs") / load_recipe(place).recipe.name
    audit = audit_store(FeatureStore.open(store_of(folder)), rows=rows, seed=seed, progress=progress)
    return audit, audit.save(folder)
