"""Whether a model of a run folder is judged on images that it learnt from."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from meddistill.data.samples import name_rows
from meddistill.evaluation.config import SuiteConfig
from meddistill.evaluation.tables import SuiteTables
from meddistill.features.reader import FeatureStore


def judged_on_learnt(stores: Mapping[str, Path], suite: SuiteConfig, tables: SuiteTables) -> Iterator[str]:
    """A rule for every model (name → store) and task whose tested rows have images of the store.

    Images are compared by content and by how the table reads them; a store knows no patients.
    """
    for model, store in stores.items():
        known = FeatureStore.open(store)
        for task in suite.tasks:
            part = tables.parts(task)[task.tested_role()]
            found = np.flatnonzero(known.image_rows(part.keys) >= 0)
            if len(found):
                rows = name_rows([part.samples.rows[place] for place in found.tolist()])
                yield (
                    f"task {task.name}: table {part.table}: the tested images must be new to the models; "
                    f"`{model}` learnt from those in {rows}. Leave out these rows, or the model."
                )
