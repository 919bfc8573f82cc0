"""From embeddings to the few features that so few events allow."""

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from meddistill.arrays import Floats, Floats32, Ints
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.survival.clinical import Clinical

# Features [n, k] of all patients from the patients to learn the makings from, and how many events these had.
Block = Callable[[Ints, int], Floats]

MOST_COMPONENTS: Final = 16
_EVENTS_A_COMPONENT: Final = 2
_FLAT: Final = 1e-9


def pooled(embeddings: Floats32, of_row: Ints, patients: int, how: Literal["mean", "max"]) -> Floats:
    """One vector a patient, [patients, d]: mean or greatest entries of the normalised rows of each."""
    rows = normalized(embeddings).astype(np.float64)
    if how == "mean":
        sums = np.zeros((patients, rows.shape[1]))
        np.add.at(sums, of_row, rows)
        return sums / np.bincount(of_row, minlength=patients)[:, None]
    largest = np.full((patients, rows.shape[1]), -np.inf)
    np.maximum.at(largest, of_row, rows)
    return largest


def image_block(features: Floats, components: int | None, strata: Ints | None = None) -> Block:
    """Standardised features, reduced to their first principal components.

    Mean, spread and components are those of the training patients. With `components` None there is one for
    every two events of the training patients, 16 at most and one at least: a head with more coefficients
    than that fits noise, whatever its penalty. With `strata` [n] features are first taken less their mean in
    the stratum: otherwise the components of greatest variance would say which stratum a patient is of, and
    few would be left for what is compared.
    """

    def block(train: Ints, events: int) -> Floats:
        wanted = components or min(MOST_COMPONENTS, max(1, events // _EVENTS_A_COMPONENT))
        scaled = _standardized(_within(features, train, strata), train)
        return to_unit_variance(scaled @ _components(scaled[train], wanted), train)

    return block


def clinical_block(clinical: Clinical, strata: Ints | None = None) -> Block:
    """Standardised clinical columns; what does not vary among the training patients is zero.

    With `strata` [n] less their means in the stratum, as images.
    """

    def block(train: Ints, events: int) -> Floats:
        del events
        design = _within(clinical.design(train), train, strata)
        return to_unit_variance(_standardized(design, train), train)

    return block


def side_by_side(*blocks: Block) -> Block:
    """All features of several blocks, which weigh the same before the head."""

    def block(train: Ints, events: int) -> Floats:
        return np.concatenate([each(train, events) for each in blocks], axis=1)

    return block


def to_unit_variance(features: Floats, train: Ints) -> Floats:
    """Divided by one number, so that variances over the training patients sum to one.

    So one grid of ridge penalties fits all widths and all models.
    """
    total = float(features[train].var(axis=0).sum()) if len(train) else 0.0
    return features / np.sqrt(total) if total > _FLAT else np.zeros_like(features)


def _within(features: Floats, train: Ints, strata: Ints | None) -> Floats:
    """Less the mean of the training patients of the stratum, of all where it has none among them."""
    if strata is None or not len(train):
        return features
    centered = np.empty_like(features)
    for stratum in np.unique(strata):
        mine = train[strata[train] == stratum]
        rows = strata == stratum
        centered[rows] = features[rows] - features[mine if len(mine) else train].mean(axis=0)
    return centered


def _standardized(features: Floats, train: Ints) -> Floats:
    if not len(train):
        return np.zeros_like(features)
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
    varies = spread > _FLAT * max(1.0, float(np.abs(mean).max(initial=0.0)))
    return np.where(varies, (features - mean) / np.where(varies, spread, 1.0), 0.0)


def _components(rows: Floats, wanted: int) -> Floats:
    """Directions [d, k] of the greatest variance, k ≤ `wanted`, by the smaller of the two Gram matrices."""
    count, width = rows.shape
    wide = width > count
    values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    least = _FLAT * max(float(values.max(initial=0.0)), 1e-300)
    kept = np.array([place for place in np.argsort(-values)[:wanted] if values[place] > least], dtype=int)
    chosen = vectors[:, kept]
    return rows.T @ chosen / np.sqrt(values[kept]) if wide else chosen
