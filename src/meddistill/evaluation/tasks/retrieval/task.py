"""Image-text retrieval among the distinct images and captions of a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags, Floats, Floats32, Ints
from meddistill.data.draws import draw
from meddistill.data.keys import group_ids, text_keys
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.retrieval.config import RetrievalConfig
from meddistill.evaluation.tasks.retrieval.metrics import MAIN
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions

_CHUNK: Final = 256
_TIE: Final = 1e-6  # similarities closer than this are equal: float32 products of one pair differ by as much


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The distinct images and captions of a table and which belong together.

    `first_image` and `first_text` are positions (from 0) in the samples where each is found first;
    `images` and `texts` [n] tell for every row which distinct image and caption it has.
    """

    images: Ints
    texts: Ints
    first_image: Ints
    first_text: Ints

    @classmethod
    def of(cls, image_keys: Sequence[str], text_keys: Sequence[str]) -> "Gallery":
        """Of rows with these content keys of images and of captions."""
        images, texts = group_ids(image_keys), group_ids(text_keys)
        first_image, first_text = (np.unique(each, return_index=True)[1] for each in (images, texts))
        return cls(images=images, texts=texts, first_image=first_image, first_text=first_text)

    def positives(self, direction: int) -> list[Ints]:
        """Right answers of every query: the captions of an image (0), the images of a caption (1)."""
        asked, answers = (self.images, self.texts) if direction == 0 else (self.texts, self.images)
        pairs = np.unique(np.stack([asked, answers], axis=1), axis=0)
        ends = np.flatnonzero(np.diff(pairs[:, 0])) + 1
        return np.split(pairs[:, 1], ends)


@final
class Retrieval(Task[RetrievalConfig, RankPredictions]):
    """Image to text and text to image by cosine, exact search.

    Queries and galleries are the table's distinct images (by content) and captions (after normalising).
    Every caption that stands beside an image is a right answer to it, and the other way round, so copies
    never compete with one another. The rank of a query is that of its best right answer with similarity s:
    1 + (wrong answers above s) + ½ (wrong answers equal to s); a collapsed model so gets the middle rank.
    A caption that several patients share stands for each of them in equal parts.

    With `pairs` the table is first cut down to n distinct pairs of image and caption, as M3AE does with ROCO
    (2,000 shuffled test images). The pairs are those of the lowest hashes of seed, image and caption.
    """

    needs_text = True
    main = MAIN

    @property
    def tested(self) -> EvalSplit:
        """The rows of the one table, or those of the pairs that are drawn from it."""
        return self._drawn

    @cached_property
    def _drawn(self) -> EvalSplit:
        whole, wanted = self.parts["table"], self.config.pairs
        if wanted is None:
            return whole
        pairs = _pairs(whole)
        order = sorted(set(pairs), key=lambda pair: (draw("pair", wanted.seed, *pair), pair))
        chosen = set(order[: wanted.n])
        return whole.take([row for row, pair in enumerate(pairs) if pair in chosen])

    @cached_property
    def gallery(self) -> Gallery:
        """The distinct images and captions."""
        return Gallery.of(self.tested.keys, text_keys(self.tested.samples))

    def pair(self, embeddings: Embeddings) -> tuple[Floats32, Floats32]:
        """Normalised embeddings of the distinct images [i, d] and of the distinct captions [t, d]."""
        samples, gallery = self.tested.samples, self.gallery
        chosen = samples.take(gallery.first_image)
        images = embeddings.images(chosen, [self.tested.keys[row] for row in gallery.first_image])
        texts = samples.texts or ()
        captions = embeddings.texts([texts[row] for row in gallery.first_text])
        return normalized(images), normalized(captions)

    def predict(self, embeddings: Embeddings) -> RankPredictions:
        """Ranks of all queries in both directions."""
        return self.ranked(*self.pair(embeddings))

    def combine(
        self,
        members: Sequence[Embeddings],
        predictions: Sequence[RankPredictions],  # noqa: ARG002
    ) -> RankPredictions:
        """Ranks by the mean of the members' similarities, each standardised over the whole matrix."""
        return self.ranked(*joint([self.pair(member) for member in members]))

    def ranked(self, images: Floats32, texts: Floats32) -> RankPredictions:
        """Ranks by the dot products of `images` [i, d] and `texts` [t, d]."""
        gallery, part = self.gallery, self.tested
        entries: dict[str, list[NDArray[Any]]] = {}
        for direction, (asked, first) in enumerate(
            ((gallery.images, gallery.first_image), (gallery.texts, gallery.first_text))
        ):
            positives = gallery.positives(direction)
            queries, answers = (images, texts) if direction == 0 else (texts, images)
            ranks = best_ranks(queries, answers, positives)
            query, rows, shares = _entries(asked, part)
            found = {
                "directions": np.full(len(query), direction),
                "ranks": ranks[query],
                "shares": shares,
                "positives": np.array([len(each) for each in positives])[query],
                "first": first[query],
                "rows": rows,
            }
            for name, values in found.items():
                entries.setdefault(name, []).append(values)
        joined: dict[str, Any] = {name: np.concatenate(parts) for name, parts in entries.items()}
        first, rows = joined.pop("first"), joined.pop("rows")
        numbers = np.array(part.samples.rows, dtype=np.int64)
        return RankPredictions(
            images=len(images),
            texts=len(texts),
            rows=numbers[first],
            samples=self.names([part.samples.ids[row] for row in first]),
            patients=part.patients[rows],
            modalities=tuple(part.samples.modalities[row] for row in rows),
            **joined,
        )

    def grouped(self, predictions: RankPredictions) -> RankPredictions:
        """The groups of the rows that entries stand for: a query's first row may be another patient's."""
        asked = (self.gallery.images, self.gallery.texts)
        rows = np.concatenate([_entries(each, self.tested)[1] for each in asked])
        return self._at(predictions, rows.tolist())

    def facts(self) -> dict[str, Any]:
        """The sizes of the galleries."""
        gallery, wanted = self.gallery, self.config.pairs
        facts: dict[str, Any] = {
            "images": len(gallery.first_image),
            "texts": len(gallery.first_text),
            "pairs": len(self.tested),
        }
        if wanted is None:
            return facts
        there = len(set(_pairs(self.parts["table"])))
        short = f"fewer distinct pairs than the {wanted.n} to draw: all {there} are the gallery"
        return {
            **facts,
            "drawn_from": there,
            "draw_seed": wanted.seed,
            "warnings": [short] if there < wanted.n else [],
        }


def _pairs(part: EvalSplit) -> list[tuple[str, str]]:
    """Content keys of image and caption of every row."""
    return list(zip(part.keys, text_keys(part.samples), strict=True))


def best_ranks(queries: Floats32, answers: Floats32, positives: Sequence[Ints]) -> Floats:
    """Rank (from 1) of the best right answer to every query, ties with wrong ones counting half.

    `queries` [q, d] and `answers` [a, d] are compared by dot product; `positives[i]` are right for query i.
    Costs q x a products and memory for some hundred rows of them.
    """
    ranks = np.empty(len(queries))
    for start in range(0, len(queries), _CHUNK):
        similarity = queries[start : start + _CHUNK] @ answers.T
        right = np.zeros(similarity.shape, dtype=bool)
        for row, answer in enumerate(positives[start : start + _CHUNK]):
            right[row, answer] = True
        ranks[start : start + _CHUNK] = ranks_in(similarity, right)
    return ranks


def ranks_in(similarity: Floats32, right: Flags) -> Floats:
    """Rank (from 1) of the best right answer in each row of `similarity` [q, a]; ties count half."""
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    above = ((similarity > best + _TIE) & ~right).sum(axis=1)
    level = ((np.abs(similarity - best) <= _TIE) & ~right).sum(axis=1)
    ranks: Floats = 1 + above + level / 2
    return ranks


def joint(pairs: Sequence[tuple[Floats32, Floats32]]) -> tuple[Floats32, Floats32]:
    """Embeddings whose dot product ranks as the mean of the members' standardised similarities does.

    z = (s - mean) / sd of each member's matrix of cosines; the means shift all of a row's values alike, so
    that s / sd is enough: images are put side by side, divided by sd, and so are the texts. A member whose
    cosines are all equal says nothing and is left out; if all are, similarities are zero.
    """
    factors = []
    for images, texts in pairs:
        deviation = _deviation(images, texts)
        factors.append(1 / deviation if deviation > _TIE else 0.0)
    total = sum(factors) or 1.0
    images = np.concatenate(
        [part * (each / total) for (part, _), each in zip(pairs, factors, strict=True)], axis=1
    )
    texts = np.concatenate([part for _, part in pairs], axis=1)
    return images.astype(np.float32), texts


def _deviation(images: Floats32, texts: Floats32) -> float:
    """Standard deviation of all entries of images · textsᵀ, without the matrix."""
    left, right = images.astype(np.float64), texts.astype(np.float64)
    left = left - left.mean(axis=0)
    # Σ of all entries of (X Cᵀ)², C centred too, is trace(XᵀX CᵀC); rows' and columns' own means add theirs.
    centre, other = right.mean(axis=0), images.astype(np.float64).mean(axis=0)
    spread = right - centre
    cross = float(((left.T @ left) * (spread.T @ spread)).sum()) / (len(left) * len(right))
    rows = float(np.square(left @ centre).mean())
    columns = float(np.square(spread @ other).mean())
    return float(np.sqrt(max(0.0, cross + rows + columns)))


def _entries(asked: Ints, part: EvalSplit) -> tuple[Ints, Ints, Floats]:
    """One entry for each query and patient or modality it belongs to: query, position of a row, share."""
    seen: dict[tuple[int, int, str], int] = {}
    for row, key in enumerate(
        zip(asked.tolist(), part.patients.tolist(), part.samples.modalities, strict=True)
    ):
        seen.setdefault(key, row)
    query = np.array([key[0] for key in seen], dtype=np.int64)
    rows = np.array(list(seen.values()), dtype=np.int64)
    return query, rows, 1 / np.bincount(query)[query]
