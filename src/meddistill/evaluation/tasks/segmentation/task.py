"""Outlining a structure from frozen patch tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, final

import numpy as np

from meddistill.arrays import Flags, Floats32
from meddistill.data.samples import name_rows
from meddistill.errors import NonFiniteError, UserError
from meddistill.evaluation.base.lazily import Lazily
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Tokens
from meddistill.evaluation.tasks.segmentation.config import SegmentationProbeConfig
from meddistill.evaluation.tasks.segmentation.decoder import DETAIL, Targets, TokenGrids, fit, stacked
from meddistill.evaluation.tasks.segmentation.grids import Box, at_pixels, coverage
from meddistill.evaluation.tasks.segmentation.masks import Masks, read_masks, refuse_unmarked
from meddistill.evaluation.tasks.segmentation.metrics import MAIN, mask_metrics, metric_names, surface_tool
from meddistill.evaluation.tasks.segmentation.predictions import MaskPredictions, mask_png

ALL_BACKGROUND: Final = "all background"
MEAN_MASK: Final = "mean training mask"
NO_TOKENS: Final = "no patch tokens"
_MEAN_CELLS: Final = (64, 64)
_FEW_PATIENTS: Final = 5

# Probability of every pixel of a tested image, [rows, columns], by seed and place of the image.
_Probability = Callable[[int, int], Floats32]


@dataclass(frozen=True, kw_only=True)
class _Maps:
    """Logits of the tested images for every seed on the decoder's grid, and the boxes that it covers."""

    logits: tuple[Floats32, ...]
    boxes: tuple[Box, ...]

    def probability(self, seed: int, place: int, shape: tuple[int, int]) -> Floats32:
        """At the pixels of an image. What the model does not see of it is background."""
        values, seen = at_pixels(self.logits[seed][place], self.boxes[place], shape)
        probability: Floats32 = np.where(seen, 1 / (1 + np.exp(-np.clip(values, -60, 60))), 0)
        return probability


@final
class SegmentationProbe(Task[SegmentationProbeConfig, MaskPredictions]):
    """A small decoder on frozen patch tokens marks one structure; compared at the resolution of the masks.

    A pixel is marked where its probability exceeds one half. The grid of tokens is laid over what the model
    sees of an image: a raster that cuts the image leaves the rest unseen, which counts as background. Every
    metric is a mean over images; patients are resampled. Masks are used at their own size.
    """

    libraries = ("torch", "monai")
    needs_text = False
    main = MAIN

    def __init__(
        self, config: SegmentationProbeConfig, parts: Mapping[str, EvalSplit], names: SampleNames
    ) -> None:
        super().__init__(config, parts, names)
        self._fitted: dict[str, _Maps] = {}  # by fingerprint, for the teacher mean

    @cached_property
    def masks(self) -> Mapping[str, Masks]:
        """True masks by role."""
        return {role: read_masks(part, self.config) for role, part in self.parts.items()}

    def check(self) -> None:
        """Raise TableError for masks that cannot be used, or a training table without the structure."""
        refuse_unmarked(self.parts["train"], self.masks["train"], self.config)

    def unmet_requirement(self, embeddings: Embeddings) -> str:
        """Patch tokens are needed."""
        tokens = embeddings.image_tokens(self.tested.samples.take([0]), self.tested.keys[:1])
        return NO_TOKENS if tokens is None or tokens.grid is None else ""

    def predict(self, embeddings: Embeddings) -> MaskPredictions:
        """Outlines of the tested images by every seed's decoder, with their metrics.

        Raises UserError where the tokens would take more memory than `max_gigabytes`; NonFiniteError where
        they are not finite.
        """
        maps = self._maps(embeddings)
        shapes = self.masks["test"].shapes
        return self._score_outlines(
            lambda seed, place: maps.probability(seed, place, shapes[place]), seeds=self.config.seeds
        )

    def combine(
        self,
        members: Sequence[Embeddings],
        predictions: Sequence[MaskPredictions],  # noqa: ARG002
    ) -> MaskPredictions:
        """By the mean of the members' probabilities at every pixel, seed by seed.

        Dumps hold no probabilities. They are kept in memory while a run lasts; of members whose dump was
        there already the decoders are trained again, which gives the same ones.
        """
        fitted = [self._maps(member) for member in members]
        shapes = self.masks["test"].shapes

        def mean(seed: int, place: int) -> Floats32:
            each = [maps.probability(seed, place, shapes[place]) for maps in fitted]
            average: Floats32 = np.mean(each, axis=0, dtype=np.float32)
            return average

        return self._score_outlines(mean, seeds=self.config.seeds)

    def baselines(self) -> Mapping[str, MaskPredictions]:
        """Nothing marked at all; and what is marked in most training masks, laid over every image."""

        def nothing(_: int, place: int) -> Floats32:
            return np.zeros(self.masks["test"].shapes[place], dtype=np.float32)

        def mean(_: int, place: int) -> Floats32:
            shape = self.masks["test"].shapes[place]
            return at_pixels(self._prior, _whole(shape), shape)[0]

        makers = {ALL_BACKGROUND: nothing, MEAN_MASK: mean}
        return Lazily({name: partial(self._score_outlines, maker, seeds=1) for name, maker in makers.items()})

    @cached_property
    def _prior(self) -> Floats32:
        """The share of training masks that mark each cell of an image."""
        train_masks = self.masks["train"]
        shares = [
            coverage(train_masks[place], _whole(train_masks.shapes[place]), _MEAN_CELLS)[0]
            for place in range(len(train_masks))
        ]
        prior: Floats32 = np.stack(shares).mean(axis=0)
        return prior

    def facts(self) -> dict[str, Any]:
        """What forms the structure, how many images lack it, and by which rules and tool it was measured."""
        tested, train = self.masks["test"], self.parts["train"]
        without = sum(not pixels for pixels in tested.pixels)
        patients = np.unique(self.tested.patients[np.array(tested.pixels) > 0])
        few = f"fewer than {_FEW_PATIENTS} test patients with the structure: read its intervals with care"
        if not len(patients):
            few = "no tested image has the structure: how well it is found is not measured"
        return {
            "foreground": self.config.foreground or "all but 0",
            "decoder": self.config.decoder,
            "train_n": len(train),
            "train_patients": len(np.unique(train.patients)),
            "without_structure": without,
            "empty": self.config.empty,
            "unit": self.config.unit,
            "surfaces": surface_tool(),
            "warnings": [few] if len(patients) < _FEW_PATIENTS else [],
        }

    def _maps(self, embeddings: Embeddings) -> _Maps:
        """Logits of the tested images; trained once for each model."""
        key = embeddings.model.fingerprint
        if key not in self._fitted:
            refuse_unmarked(self.parts["train"], self.masks["train"], self.config)
            self._refuse_too_large(embeddings)
            tokens = {role: self._tokens(embeddings, part) for role, part in self.parts.items()}
            train_masks = {
                role: (_grids(grids), self._targets(role, grids))
                for role, grids in tokens.items()
                if role != "test"
            }
            test = tokens["test"]
            label, epochs = f"{embeddings.model.name}: {self.name}", self.config.seeds * self.config.epochs
            with embeddings.progress.track(label, epochs, unit="epochs") as advance:
                fitted = partial(
                    fit, train_masks["train"], train_masks.get("validation"), self.config, advance=advance
                )
                logits = [fitted(seed=seed).logits(_grids(test)) for seed in range(self.config.seeds)]
            boxes = [test.box(*shape) for shape in self.masks["test"].shapes]
            self._fitted[key] = _Maps(logits=tuple(logits), boxes=tuple(boxes))
        return self._fitted[key]

    def _refuse_too_large(self, embeddings: Embeddings) -> None:
        one = _some(embeddings.image_tokens(self.tested.samples.take([0]), self.tested.keys[:1]))
        rows = sum(len(part) for part in self.parts.values())
        size = rows * one.values[0].size * 2 / 1e9
        if size > self.config.max_gigabytes:
            shape = f"{rows:,} rows of {one.values.shape[1]:,} x {one.values.shape[2]:,}"
            msg = (
                f"`max_gigabytes` of task `{self.name}` must hold the patch tokens of "
                f"{embeddings.model.name}, {size:.1f} GB ({shape}); got {self.config.max_gigabytes:g}. "
                "Raise it, or evaluate fewer rows by `where`."
            )
            raise UserError(msg)

    def _tokens(self, embeddings: Embeddings, part: EvalSplit) -> Tokens:
        tokens = _some(embeddings.image_tokens(part.samples, part.keys))
        bad = ~np.isfinite(tokens.values).all(axis=(1, 2))
        if bad.any():
            rows = [part.samples.rows[place] for place in np.flatnonzero(bad)]
            msg = (
                f"Patch tokens of {embeddings.model.name} must be finite; they are not at {name_rows(rows)}."
            )
            raise NonFiniteError(msg)
        return tokens

    def _targets(self, role: str, tokens: Tokens) -> Targets:
        masks, (rows, columns) = self.masks[role], _grids(tokens).grid
        cells = (rows * DETAIL, columns * DETAIL)
        return stacked(
            [coverage(masks[place], tokens.box(*masks.shapes[place]), cells) for place in range(len(masks))]
        )

    def _score_outlines(self, probability: _Probability, *, seeds: int) -> MaskPredictions:
        masks, config = self.masks["test"], self.config
        values, pixels, pictures = [], [], []
        for seed in range(seeds):
            for place in range(len(masks)):
                truth, given = masks[place], probability(seed, place) > 0.5
                values.append(self._measured(truth, given, place))
                pixels.append(int(given.sum()))
                shown = self.names.examples and not seed
                pictures.append((mask_png(truth), mask_png(given)) if shown else (b"", b""))
        return MaskPredictions(
            table=self.tested.table,
            names=metric_names(config.tolerance, config.unit),
            values=np.array(values, dtype=np.float64),
            truth_pixels=np.tile(np.array(masks.pixels, dtype=np.int64), seeds),
            given_pixels=np.array(pixels, dtype=np.int64),
            seeds=np.repeat(np.arange(seeds), len(masks)),
            **self._identity(times=seeds),
            truths=tuple(truth for truth, _ in pictures) if self.names.examples else (),
            givens=tuple(given for _, given in pictures) if self.names.examples else (),
        )

    def _measured(self, truth: Flags, given: Flags, place: int) -> tuple[float, ...]:
        if self.config.empty == "skip" and not truth.any():
            return (np.nan,) * len(metric_names(self.config.tolerance, self.config.unit))
        spacing = self.masks["test"].spacings[place]
        return mask_metrics(truth, given, tolerance=self.config.tolerance, spacing=spacing)


def _some(tokens: Tokens | None) -> Tokens:
    if tokens is None or tokens.grid is None:
        msg = "`predict` must be given a model with patch tokens on a grid; check `unmet_requirement` first."
        raise ValueError(msg)
    return tokens


def _grids(tokens: Tokens) -> TokenGrids:
    grid = _some(tokens).grid or (0, 0)
    return TokenGrids(values=tokens.values, grid=grid)


def _whole(shape: tuple[int, int]) -> Box:
    return 0.0, 0.0, float(shape[0]), float(shape[1])
