"""How much a derived teacher knows of what belongs together: its similarities beside the pairs."""

from collections.abc import Iterator, Sequence

import numpy as np

from meddistill.arrays import Flags, Floats32
from meddistill.evaluation.audit.record import OffDiagonal
from meddistill.evaluation.audit.sample import AuditSample
from meddistill.evaluation.models.protocols import normalized
from meddistill.features.reader import FeatureStore

_PAIRS = 512


def off_diagonal_mass(images: Floats32, texts: Floats32, positives: Flags, *, scale: float) -> float:
    """Mean over rows i of 1 - Σ_j∈positives(i) softmax_j(scale · cos(image i, text j)), in [0, 1].

    `images` and `texts` `[n, dim]` are those of n pairs, `positives` `[n, n]`. It is about
    1 - (positives a row)/n for embeddings that tell nothing apart, and 0 for those that know every pair: then
    a softmax over them has nothing to teach.
    """
    cosines = normalized(images).astype(np.float64) @ normalized(texts).astype(np.float64).T
    logits = scale * cosines
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return float(np.mean(1 - np.where(positives, shares, 0.0).sum(axis=1)))


def pairing(store: FeatureStore, teacher: str, sample: AuditSample, seed: int) -> OffDiagonal | None:
    """The mass of a derived teacher on at most 512 pairs of the sample; None for any other, or without pairs.

    Pairs of which it has no embedding (a row of zeros) are left out.
    """
    card = store.card(teacher)
    if not card.is_derived or not len(sample.pairs):
        return None
    drawn = np.sort(np.random.default_rng(seed).permutation(len(sample.pairs))[:_PAIRS])
    places = sample.pairs[drawn]
    pairs = np.stack([sample.image_rows[places[:, 0]], sample.text_rows[places[:, 1]]], axis=1)
    first = np.zeros(len(pairs), dtype=np.int64)
    images = store.read(teacher, "image", store.rows_of(teacher, "image", pairs), views=first)
    texts = store.read(teacher, "text", store.rows_of(teacher, "text", pairs))
    there = images.any(axis=1) & texts.any(axis=1)
    if not there.any():
        return None
    pairs = pairs[there]
    positives = (pairs[:, None, 0] == pairs[None, :, 0]) | (pairs[:, None, 1] == pairs[None, :, 1])
    scale = card.logit_scale or 1.0
    return OffDiagonal(
        teacher=teacher,
        by_pair=store.by_pair(teacher),
        mass=off_diagonal_mass(
            images[there].astype(np.float32), texts[there].astype(np.float32), positives, scale=scale
        ),
        chance=float(np.mean(1 - positives.mean(axis=1))),
        scale=scale,
        pairs=len(pairs),
    )


def pairings(
    store: FeatureStore, teachers: Sequence[str], sample: AuditSample, *, seed: int
) -> Iterator[OffDiagonal]:
    """The mass of every derived teacher among these."""
    for name in teachers:
        measured = pairing(store, name, sample, seed)
        if measured is not None:
            yield measured


def pairing_note(measured: OffDiagonal) -> str:
    """For people."""
    by_pair = (
        " It has a row a pair and knows what belongs together: a target for features, no space to compare."
        if measured.by_pair
        else ""
    )
    return (
        f"{measured.teacher} is derived: for an image among {measured.pairs:,} pairs it gives captions of "
        f"other images {measured.mass:.3f} of its weight (softmax of its cosines times its logit scale "
        f"{measured.scale:.1f}). Near 0 it knows which caption belongs to which image, and its similarities "
        f"teach a student nothing about other pairs; near {measured.chance:.3f} it tells no caption from "
        "another at this scale, and they teach nothing at all; what lies between is what a student can learn "
        f"from them.{by_pair}"
    )
