"""The distinct images, texts and pairs of samples: what of them a store has to hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddistill.data.keys import image_keys, text_key, text_keys
from meddistill.data.samples import Samples
from meddistill.features.format import TextRole

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DistinctRows:
    """Distinct images and texts in the order of their first appearance.

    `image_samples` is the first sample that shows each image, `texts` the first form in which each caption
    occurs: captions that are equal after `normalize_text` are one caption. `text_places` is where that is:
    a sample, or, from the number of samples on, a text of the banks. `pairs` `[pairs, 2]` holds positions in
    `image_keys` and `text_keys`; a sample without a caption is in none.
    """

    image_keys: tuple[str, ...]
    image_samples: Indices
    modalities: tuple[str, ...]
    text_keys: tuple[str, ...]
    texts: tuple[str, ...]
    text_places: Indices
    roles: tuple[TextRole, ...]
    pairs: Indices


def distinct_rows(samples: Samples, banks: Mapping[TextRole, Sequence[str]]) -> DistinctRows:
    """Collect what `samples` show and say, and the further texts of `banks` by their role."""
    captioned = np.flatnonzero(samples.captioned)
    banked = [text for bank in banks.values() for text in bank]
    texts = [*samples.captions, *banked]
    places = np.concatenate([captioned, len(samples) + np.arange(len(banked))])
    roles: list[TextRole] = ["caption" for _ in captioned]
    roles += [role for role, bank in banks.items() for _ in bank]
    keys = [*filter(None, text_keys(samples)), *map(text_key, banked)]
    distinct_texts, first_text, text_of = first_appearances(keys)
    distinct_images, first_image, image_of = first_appearances(image_keys(samples))
    together = np.stack([image_of[captioned], text_of[: len(captioned)]], axis=1)
    _, first_pair = np.unique(together, axis=0, return_index=True)
    return DistinctRows(
        image_keys=distinct_images,
        image_samples=first_image,
        modalities=tuple(samples.modalities[first] for first in first_image),
        text_keys=distinct_texts,
        texts=tuple(texts[first] for first in first_text),
        text_places=places[first_text],
        roles=tuple(roles[first] for first in first_text),
        pairs=together[np.sort(first_pair)],
    )


def first_appearances(keys: Sequence[str]) -> tuple[tuple[str, ...], Indices, Indices]:
    """Distinct keys in order of appearance, where each first appears, and each key's place among them."""
    place: dict[str, int] = {}
    of = np.fromiter((place.setdefault(key, len(place)) for key in keys), dtype=np.int64, count=len(keys))
    first = np.full(len(place), len(keys), dtype=np.int64)
    np.minimum.at(first, of, np.arange(len(keys), dtype=np.int64))
    return tuple(place), first, of
