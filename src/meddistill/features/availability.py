"""Which teachers are available for which rows: by modality, column and agreement, all of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddistill.data.keys import image_keys, text_keys
from meddistill.data.samples import Samples, name_rows
from meddistill.errors import StoreError, did_you_mean
from meddistill.features.config import AvailabilityConfig
from meddistill.features.reader import FeatureStore, covered
from meddistill.features.rows import Indices
from meddistill.features.tables import ABSENT
from meddistill.teachers.card import TeacherCard

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Availability:
    """`masks` `[samples]` by teacher; `thresholds`: each teacher's τ where agreement counts.

    `kept`: positions of the samples for which enough teachers are left.
    """

    masks: Mapping[str, Mask]
    kept: Indices
    thresholds: Mapping[str, float]

    def of_kept(self) -> dict[str, Mask]:
        """The masks of the kept samples alone, in their order."""
        return {name: mask[self.kept] for name, mask in self.masks.items()}


def by_modality(samples: Samples, cards: Mapping[str, TeacherCard]) -> dict[str, Mask]:
    """Whether each teacher's card covers the modality of each sample; see `covered`."""
    names, codes = np.unique(np.array(samples.modalities, dtype=np.str_), return_inverse=True)
    return {teacher: covered(card, names.tolist())[codes] for teacher, card in cards.items()}


def availability(
    samples: Samples,
    cards: Mapping[str, TeacherCard],
    config: AvailabilityConfig,
    *,
    store: FeatureStore | None,
    keys: Sequence[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> Availability:
    """Sample i is available for teacher k when modality, column and agreement all let it in.

    Agreement: cos_k(image, text) >= τ_k, τ_k the q-quantile (interpolated linearly) of cos_k over the
    samples' different pairs whose images the teacher covers, so that it keeps at least 1 - q of them; exact,
    from the numbers of `store`. `thresholds` are the τ where they are those of other samples. A row without
    a caption has no agreement to hold against it, and a teacher that only reads is not available for it. Rows
    with fewer than `min_teachers` teachers are not `kept`.

    MMKD-CLIP filtered its pairs in advance, to 6.6 of nine teachers on average, by a rule that its authors
    did not publish; this is a reconstruction of it. `store` is needed for agreement alone.

    Raises
    ------
    StoreError
        If the store lacks pairs of the samples, or a teacher's agreement.
    """
    masks = {
        name: mask if "image" in cards[name].dims else mask & samples.captioned
        for name, mask in by_modality(samples, cards).items()
    }
    if config.column is not None:
        listed = _listed(samples, config.column, cards)
        masks = {name: mask & listed[name] for name, mask in masks.items()}
    quantiles = quantiles_of(config, cards)
    limits: dict[str, float] = {}
    if quantiles and store is not None:
        keys = image_keys(samples) if keys is None else keys
        captioned = np.flatnonzero(samples.captioned)
        pairs = _pair_rows(store, samples.take(captioned), [keys[row] for row in captioned.tolist()])
        for name, quantile in quantiles.items():
            cosines = store.agreement(name).astype(np.float64)
            limits[name] = (
                _threshold(store, cosines, cards[name], quantile=quantile, pairs=pairs)
                if thresholds is None
                else thresholds[name]
            )
            masks[name][captioned] &= cosines[pairs] >= limits[name]
    left = np.sum(list(masks.values()), axis=0, dtype=np.int64)
    return Availability(masks=masks, kept=np.flatnonzero(left >= config.min_teachers), thresholds=limits)


def quantiles_of(config: AvailabilityConfig, cards: Mapping[str, TeacherCard]) -> dict[str, float]:
    """Each teacher's quantile of agreement. A number for all passes over those of one embedding."""
    asked = config.agreement_quantile
    if asked is None:
        return {}
    if isinstance(asked, Mapping):
        return dict(asked)
    return {name: asked for name, card in cards.items() if has_agreement(card)}


def has_agreement(card: TeacherCard) -> bool:
    """Whether image and text embeddings lie in one space."""
    return "image" in card.dims and card.dims["image"] == card.dims.get("text")


def column_mistakes(samples: Samples, teachers: Collection[str], config: AvailabilityConfig) -> list[str]:
    """One line for every unknown name in the column of teachers, and for every teacher it never names."""
    if config.column is None:
        return []
    cells = samples.columns[config.column]
    rows: dict[str, list[int]] = {}
    for cell, places in _places(cells).items():
        for name in _names(cell):
            rows.setdefault(name, []).extend(samples.rows[place] for place in places)
    lines = [
        f"`{config.column}` must list teachers of the recipe ({', '.join(teachers)}); got {name!r} in "
        f"{name_rows(sorted(rows[name]))}.{did_you_mean(name, teachers)} "
        "`features: {availability: {unknown_names: ignore}}` passes over other names."
        for name in sorted(set(rows).difference(teachers) if config.unknown_names == "refuse" else ())
    ]
    lines += [
        f"`{config.column}` must name the teacher {name} in one row at least; it never does. Leave it "
        "out, or mend the column."
        for name in teachers
        if name not in rows
    ]
    return lines


def _listed(samples: Samples, column: str, teachers: Collection[str]) -> dict[str, Mask]:
    masks = {name: np.zeros(len(samples), dtype=np.bool_) for name in teachers}
    for cell, places in _places(samples.columns[column]).items():
        for name in _names(cell).intersection(teachers):
            masks[name][places] = True
    return masks


def _places(cells: Sequence[str]) -> dict[str, list[int]]:
    """Where each distinct cell stands; there are few."""
    places: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        places.setdefault(cell, []).append(place)
    return places


def _names(cell: str) -> set[str]:
    """`a|b` and `a; b` as names."""
    return {name.strip() for name in cell.replace(";", "|").split("|")} - {""}


def _threshold(
    store: FeatureStore, cosines: NDArray[np.float64], card: TeacherCard, *, quantile: float, pairs: Indices
) -> float:
    codes, modalities = store.tables.names("modality")
    asked = np.unique(pairs)
    covers = covered(card, modalities)[codes[store.tables.pairs[asked, 0]]]
    # An exact zero is that of a pair without vectors, as imported stores have them.
    counted = cosines[asked][covers & (cosines[asked] != 0)]
    return float(np.quantile(counted, quantile)) if len(counted) else 1.0


def _pair_rows(store: FeatureStore, samples: Samples, keys: Sequence[str]) -> Indices:
    """The row in the store's table of pairs of each sample."""
    rows = store.tables.pair_rows(store.pairs_of(keys, text_keys(samples)))
    absent = rows == ABSENT
    if absent.any():
        msg = (
            f"`{store.path}` must hold the table's pairs of image and caption; it lacks "
            f"{int(absent.sum())} of {len(samples)}. Add them with `meddistill features add`."
        )
        raise StoreError(msg)
    return rows
