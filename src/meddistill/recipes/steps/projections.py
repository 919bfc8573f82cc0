"""The fixed maps of a stage's projection: fitted once, kept in the stage's folder."""

from collections.abc import Mapping
from typing import Any, Final

from meddistill.data.keys import text_keys
from meddistill.errors import StoreError
from meddistill.features.projections.config import FittedConfig
from meddistill.features.projections.fit import fit_maps
from meddistill.features.projections.maps import LinearMap, load_maps, save_maps
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices
from meddistill.recipes.schema import AnyStage
from meddistill.recipes.session import Session
from meddistill.recipes.steps.training_data import StageRows

PROJECTION_FILE: Final = "projection.safetensors"


def target_maps(
    session: Session, stage: AnyStage, rows: StageRows, *, student_dim: int, inputs: Mapping[str, Any]
) -> dict[str, LinearMap]:
    """The teachers' maps, from the stage's folder or else fitted there by the main process.

    `inputs` are those of the stage; maps of other ones are fitted anew.
    """
    projection = stage.fitted_projection
    if projection is None:
        return {}
    path = session.folder.stage(stage.name) / PROJECTION_FILE
    fitted_from = {
        "projection": projection.model_dump(mode="json"),
        "student_dim": student_dim,
        **{name: given for name, given in inputs.items() if name not in ("stage", "initial", "banks")},
    }
    if session.is_main_process and load_maps(path, fitted_from=fitted_from) is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_maps(_fitted(session, projection, rows, student_dim), path, fitted_from=fitted_from)
    session.processes.wait()
    maps = load_maps(path, fitted_from=fitted_from)
    if maps is None:
        msg = f"`{path}` must be readable by every process; it is not. Put the run's folder on a shared disk."
        raise StoreError(msg)
    return maps


def _fitted(
    session: Session, projection: FittedConfig, rows: StageRows, student_dim: int
) -> dict[str, LinearMap]:
    store = FeatureStore.open(session.folder.features)
    return fit_maps(
        projection,
        store,
        tuple(rows.cards),
        student_dim=student_dim,
        pairs=stage_pairs(store, rows),
        device=session.processes.device,
        progress=session.progress,
    )


def stage_pairs(store: FeatureStore, rows: StageRows) -> dict[str, Indices]:
    """The stage's samples that each teacher is asked about, by their rows in the store."""
    both = store.pairs_of(rows.keys, text_keys(rows.samples))
    return {name: both[mask] for name, mask in rows.available.items()}
