"""Whether a model of a run folder is evaluated on images that it learnt from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meddistill.data.samples import name_rows
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.features.reader import FeatureStore
from meddistill.imaging.options import RULES_VERSION


@dataclass(frozen=True, kw_only=True)
class TrainOverlap:
    """What was found: `refused` are rules that were broken, `reported` facts of tasks that only report."""

    refused: tuple[str, ...] = ()
    reported: tuple[str, ...] = ()


def find_train_overlap(stores: Mapping[str, Path], suite: SuiteConfig, tables: SuiteTables) -> TrainOverlap:
    """Every model (name → store) and task whose tested rows have images of the store.

    Images are compared by content and by how the table reads them; a store knows no patients.
    """
    refused, reported = [], []
    for model, store in stores.items():
        known = FeatureStore.open(store)
        if known.manifest.settings.decode.get("rules") != RULES_VERSION:
            reported.append(
                f"`{model}` was trained on images that an earlier version read by other rules; whether "
                "tested ones are among them is not known"
            )
        for task in suite.tasks:
            part = tables.parts(task)[task.tested_role()]
            overlap = np.flatnonzero(known.image_rows(part.keys) >= 0)
            if not len(overlap):
                continue
            rows = name_rows([part.samples.rows[place] for place in overlap.tolist()])
            if task.train_overlap == "report":
                reported.append(
                    f"{task.name}: `{model}` was trained on {len(overlap)} of {len(part)} tested images"
                )
            else:
                refused.append(
                    f"task {task.name}: table {part.table}: the tested images must be new to the models; "
                    f"`{model}` was trained on those in {rows}. Leave out these rows, or the model, or set "
                    "`train_overlap: report`."
                )
    return TrainOverlap(refused=tuple(refused), reported=tuple(reported))
