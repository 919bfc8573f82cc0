"""Which images, texts and pairs of a store an audit looks at."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Places
from meddistill.evaluation.engine.agreement import groups
from meddistill.features.reader import FeatureStore
from meddistill.features.rows import Indices


@dataclass(frozen=True)
class AuditSample:
    """Rows of a store.

    `image_rows` and `text_rows` are rows of its tables, ascending; `pairs` [p, 2] holds every pair of the
    store among them, as positions in these two. `modalities` names those of the images, "" where unknown.
    """

    image_rows: Indices
    text_rows: Indices
    pairs: Indices
    modalities: tuple[str, ...]

    @cached_property
    def image_groups(self) -> Mapping[str, Places]:
        """Positions of all images (""), then of those of each known modality."""
        return groups(self.modalities)

    def counts(self) -> dict[str, dict[str, int]]:
        """`rows` of each table, and images of each known `modalities`."""
        rows = {"images": len(self.image_rows), "texts": len(self.text_rows), "pairs": len(self.pairs)}
        modalities = {name: len(images) for name, images in self.image_groups.items() if name}
        return {"rows": rows, "modalities": modalities}

    def texts_of(self, images: Places) -> Places:
        """Positions of the texts that stand beside these images, ascending."""
        beside = np.zeros(len(self.text_rows), dtype=np.bool_)
        beside[self.pairs[np.isin(self.pairs[:, 0], images), 1]] = True
        return np.flatnonzero(beside)


def choose(store: FeatureStore, rows: int, seed: int) -> AuditSample:
    """Everything of a store with at most `rows` images and texts; otherwise a sample of it.

    Of a larger store as many images of each modality are drawn, as far as there are enough, `rows` in all,
    and one caption of each. The draw depends on the store's tables and `seed` only.
    """
    tables, manifest = store.tables, store.manifest
    images, texts = manifest.rows("images"), manifest.rows("texts")
    pairs = tables.pairs
    codes, names = tables.names("modality")
    if images <= rows and texts <= rows:
        chosen, captions = np.arange(images), np.arange(texts)
    else:
        draws = np.random.default_rng(seed)
        candidates = np.unique(pairs[:, 0]) if len(pairs) else np.arange(images)
        chosen = np.sort(_spread(candidates, codes[candidates], rows, draws))
        captions = (
            _captions(pairs, chosen, draws=draws) if len(pairs) else np.sort(draws.permutation(texts)[:rows])
        )
    return AuditSample(
        image_rows=chosen,
        text_rows=captions,
        pairs=_pairs_among(pairs, chosen, captions, images=images, texts=texts),
        modalities=tuple(names[code] for code in codes[chosen]),
    )


def _spread(candidates: Indices, codes: NDArray[np.int32], rows: int, draws: np.random.Generator) -> Indices:
    """At most `rows` candidates, equally many of each code; small codes leave their share to the others."""
    kinds, sizes = np.unique(codes, return_counts=True)
    left, share = rows, np.zeros(len(kinds), dtype=np.int64)
    for rank, kind in enumerate(np.argsort(sizes, kind="stable")):
        share[kind] = min(sizes[kind], left // (len(kinds) - rank))
        left -= share[kind]
    shuffled = draws.permutation(len(candidates))
    taken = [
        candidates[shuffled[codes[shuffled] == kind][:count]]
        for kind, count in zip(kinds, share, strict=True)
    ]
    return np.concatenate([np.empty(0, np.int64), *taken])


def _captions(pairs: Indices, chosen: Indices, *, draws: np.random.Generator) -> Indices:
    """One text of each chosen image."""
    theirs = pairs[np.isin(pairs[:, 0], chosen)]
    theirs = theirs[draws.permutation(len(theirs))]
    _, first = np.unique(theirs[:, 0], return_index=True)
    return np.unique(theirs[first, 1])


def _pairs_among(pairs: Indices, chosen: Indices, captions: Indices, *, images: int, texts: int) -> Indices:
    place_of_image, place_of_text = np.full(images, -1), np.full(texts, -1)
    place_of_image[chosen] = np.arange(len(chosen))
    place_of_text[captions] = np.arange(len(captions))
    placed = np.stack([place_of_image[pairs[:, 0]], place_of_text[pairs[:, 1]]], axis=1)
    return placed[(placed >= 0).all(axis=1)]
