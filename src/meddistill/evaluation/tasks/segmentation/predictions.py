"""How well each image was outlined."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from meddistill.arrays import Flags, Floats, Ints, Places
from meddistill.evaluation.base.bootstrap import Resampler, weighted_mean
from meddistill.evaluation.base.columns import FactReaders, Layout, whole_numbers
from meddistill.evaluation.base.exhibits import AnyExhibit, MaskExample
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.score import Score, averaged, by_modality, by_seed
from meddistill.evaluation.tasks.segmentation.metrics import MAIN

MISSED: Final = "missed"
INVENTED: Final = "invented"


@dataclass(frozen=True, kw_only=True)
class MaskPredictions(Predictions):
    """The metrics of every image under every seed, and how much was and should be marked.

    `values` [n, m] float64 of `names` [m] (see `segmentation/metrics.py`), NaN for an image that the task
    leaves out; `truth_pixels` and `given_pixels` [n]; `seeds` [n] tell the fits apart. `table` is the one
    tested. `truths` and `givens` hold the masks of the first seed as PNG of one bit, "" else; they are empty
    unless examples may be kept.

    Besides the means of `names` over images there are `missed`, the share of images with the structure on
    which nothing was marked, and `invented`, the share of images without it on which something was.
    """

    kind: ClassVar[str] = "masks"
    layout: ClassVar[Layout] = {
        "seeds": whole_numbers("seed"),
        "truth_pixels": whole_numbers("truth_pixels"),
        "given_pixels": whole_numbers("given_pixels"),
    }
    fact_readers: ClassVar[FactReaders] = {"table": str, "names": tuple}

    table: str
    names: tuple[str, ...]
    values: Floats
    truth_pixels: Ints
    given_pixels: Ints
    seeds: Ints
    truths: tuple[bytes, ...] = ()
    givens: tuple[bytes, ...] = ()

    def metrics(self, resampler: Resampler) -> list[Score]:
        """All metrics on all images, and the main metric by modality."""
        scores = self._scores(resampler, np.ones(len(self.rows), dtype=bool))
        for modality, mask in by_modality(self.modalities).items():
            scores += self._scores(resampler, mask, modality)
        return scores

    def main_score(self, resampler: Resampler) -> Score | None:
        """Dice alone."""
        fits = by_seed(self.seeds)
        if not fits:
            return None
        return self._score(resampler, MAIN, self.values[:, self.names.index(MAIN)], fits=fits, modality="")

    def exhibits(self, model: str, task: str) -> tuple[AnyExhibit, ...]:
        """The best, the median and the worst outline of the first seed, among images with the structure."""
        dice = self.values[:, self.names.index(MAIN)]
        shown = np.flatnonzero((self.seeds == self.seeds[:1]) & (self.truth_pixels > 0) & np.isfinite(dice))
        order = shown[np.lexsort((self.rows[shown], -dice[shown]))]
        places: dict[int, Literal["best", "median", "worst"]] = {}
        for place, name in ((0, "best"), (len(order) - 1, "worst"), (len(order) // 2, "median")):
            if len(order):
                places.setdefault(int(order[place]), name)  # type: ignore[arg-type]
        return tuple(
            MaskExample(
                model=model,
                task=task,
                table=self.table,
                row=int(self.rows[place]),
                place=name,
                dice=float(dice[place]),
                empty=bool(self.given_pixels[place] == 0),
                truth=_text(self.truths, place),
                given=_text(self.givens, place),
            )
            for place, name in sorted(places.items(), key=lambda each: -dice[each[0]])
        )

    def facts(self) -> Mapping[str, Any]:
        """The table and the names of the metrics."""
        return {"table": self.table, "metrics": list(self.names)}

    def columns(self) -> Mapping[str, pa.Array]:
        """Seed, pixels, metrics, and the masks where they are kept."""
        metrics = {name: pa.array(self.values[:, place]) for place, name in enumerate(self.names)}
        pictures = {"truth_mask": self.truths, "given_mask": self.givens} if self.truths else {}
        kept = {name: pa.array(each, pa.binary()) for name, each in pictures.items()}
        return {**super().columns(), **metrics, **kept}

    @classmethod
    def own_fields(cls, table: pa.Table, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the layout, the metrics, and the masks where they are kept."""
        fields = super().own_fields(table, {**facts, "names": facts["metrics"]})
        fields["values"] = np.stack([table[name].to_numpy() for name in fields["names"]], axis=1)
        if "truth_mask" in table.column_names:
            fields["truths"] = tuple(table["truth_mask"].to_pylist())
            fields["givens"] = tuple(table["given_mask"].to_pylist())
        return fields

    def _scores(self, resampler: Resampler, mask: Flags, modality: str = "") -> list[Score]:
        """Means over images, averaged over seeds resample by resample."""
        values = {name: self.values[:, place] for place, name in enumerate(self.names)}
        if modality:
            values = {MAIN: values[MAIN]}
        else:
            marked, truth = self.given_pixels > 0, self.truth_pixels > 0
            values[MISSED] = np.where(truth, (~marked).astype(np.float64), np.nan)
            values[INVENTED] = np.where(truth, np.nan, marked.astype(np.float64))
        fits = by_seed(self.seeds, mask)
        return [
            self._score(resampler, name, each, fits=fits, modality=modality) for name, each in values.items()
        ]

    def _score(
        self, resampler: Resampler, name: str, values: Floats, *, fits: Sequence[Places], modality: str
    ) -> Score:
        counted = [rows[np.isfinite(values[rows])] for rows in fits]
        patients = np.unique(self.patients[counted[0]])
        weights = resampler.weights(patients)
        groups = [np.searchsorted(patients, self.patients[rows]) for rows in counted]
        by_fit = [
            weighted_mean(values[rows], weights, group) for rows, group in zip(counted, groups, strict=True)
        ]
        main = name == MAIN and not modality
        n, people = len(counted[0]), len(patients)
        return averaged(name, by_fit, n=n, patients=people, modality=modality, main=main)


def mask_png(mask: Flags) -> bytes:
    """A mask as PNG of one bit."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1").save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _text(masks: Sequence[bytes], place: int) -> str:
    return base64.b64encode(masks[place]).decode() if masks else ""
