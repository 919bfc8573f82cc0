"""Content keys of images and captions, and groups of equal ones."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meddistill.data.samples import Samples
from meddistill.data.threads import thread_map
from meddistill.imaging import ImageRef, image_key, normalize_text


def image_keys(samples: Samples) -> tuple[str, ...]:
    """The `image_key` of every sample; each file is read once. Raises ImageError for one that cannot be."""

    def key(ref: ImageRef) -> str:
        return image_key(ref, samples.options)

    distinct = list(dict.fromkeys(samples.refs))
    keys = dict(zip(distinct, thread_map(key, distinct), strict=True))
    return tuple(keys[ref] for ref in samples.refs)


def text_key(text: str) -> str:
    """sha256 hex of the normalised text: captions that a model cannot tell apart have one key."""
    return hashlib.sha256(normalize_text(text).encode("utf-8", "surrogatepass")).hexdigest()


def text_keys(samples: Samples) -> tuple[str, ...]:
    """The `text_key` of every caption, "" for a row without one; none for samples without captions."""
    texts = samples.texts or ()
    keys = {text: text_key(text) if text else "" for text in dict.fromkeys(texts)}
    return tuple(keys[text] for text in texts)


def group_ids(keys: Sequence[str]) -> NDArray[np.int64]:
    """Equal numbers for equal keys, counted from 0 in order of first appearance; shape `[len(keys)]`."""
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(keys))
