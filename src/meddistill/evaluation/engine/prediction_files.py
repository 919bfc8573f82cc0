"""Predictions on disk, as Parquet that other tools can read."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pyarrow.parquet as pq

from meddistill.data.arrow_files import UNREADABLE, parquet_file, why_not_parquet
from meddistill.errors import UserError
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.tasks.bags.predictions import BagPredictions
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions
from meddistill.evaluation.tasks.segmentation.predictions import MaskPredictions
from meddistill.evaluation.tasks.survival.predictions import SurvivalPredictions
from meddistill.evaluation.tasks.vqa.predictions import VqaPredictions
from meddistill.files import write_whole

_METADATA: Final = b"meddistill"
_KINDS: Final[Mapping[str, type[Predictions]]] = MappingProxyType(
    {
        each.kind: each
        for each in (
            BagPredictions,
            ClassPredictions,
            LabelPredictions,
            MaskPredictions,
            RankPredictions,
            SurvivalPredictions,
            VqaPredictions,
        )
    }
)


def write_predictions(predictions: Predictions, path: Path, *, fingerprint: str) -> None:
    """Write the dump; a reader sees the old or the new file, never a part."""
    content = {"fingerprint": fingerprint, "kind": predictions.kind, **predictions.facts()}
    table = predictions.to_table().replace_schema_metadata({_METADATA: json.dumps(content).encode()})
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_whole(path, buffer.getvalue())


def read_predictions(path: Path, *, fingerprint: str | None = None) -> Predictions | None:
    """The dump at `path`; None if it is absent, or was made under another fingerprint than asked for.

    Raises UserError where the file is no dump.
    """
    if not path.is_file():
        return None
    try:
        table = parquet_file(path).read()
        facts = json.loads(table.schema.metadata[_METADATA])
        if fingerprint is not None and facts["fingerprint"] != fingerprint:
            return None
        return _KINDS[facts["kind"]].from_table(table, facts)
    except (*UNREADABLE, KeyError, TypeError) as error:
        got = why_not_parquet(path, error).what
        msg = f"`{path}` must be predictions as evaluation wrote them; got {got}. Delete it and try again."
        raise UserError(msg) from error
