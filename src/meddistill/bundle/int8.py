"""Int8 towers for a bundle, kept where they rank as the float towers do."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from meddistill.bundle.config import Int8Options
from meddistill.bundle.onnx_runs import (
    ROWS_AT_ONCE,
    Array,
    open_session,
    run_session,
    spread,
    training_rasters,
)
from meddistill.bundle.quantize import quantize_image_tower, quantize_text_tower
from meddistill.bundle_format import TOWER_FILES, Int8Comparison, Precision
from meddistill.data.keys import text_key, text_keys
from meddistill.data.samples import Samples
from meddistill.errors import one_line
from meddistill.evaluation.engine.agreement import NEIGHBOURS, neighbour_overlap
from meddistill.evaluation.tasks.retrieval.task import ranks_in
from meddistill.imaging import image_key, normalize
from meddistill.students.dual_encoder import DualEncoder

LEAST_IMAGES: Final = 40
_CALIBRATE_EVERY: Final = 4
_FEW: Final = 3


@dataclass(frozen=True)
class _Vectors:
    """Unit vectors of images [n, d] and of distinct texts [m, d]."""

    image: Array
    text: Array


def add_int8(
    student: DualEncoder, folder: Path, *, samples: Samples, options: Int8Options, text_trained: bool
) -> Int8Comparison:
    """Write the int8 towers, compare them with the float towers, and remove them where they fall short.

    Parameters
    ----------
    student
        For its input and tokenizer.
    folder
        The bundle being written, with the float towers.
    samples
        Images and captions to calibrate and to compare on. None enters the bundle.
    options
        What must be kept.
    text_trained
        Whether texts mean anything; without, images alone are compared.

    Returns
    -------
    Int8Comparison
        What was found; `left_out_because` says why there are no files.
    """
    chosen = _distinct_images(samples, options.images)
    if len(chosen) < LEAST_IMAGES:
        reason = (
            f"{LEAST_IMAGES} distinct images are needed to calibrate and compare; there are {len(chosen)}"
        )
        return Int8Comparison(images=0, texts=0, left_out_because=(reason,))
    pixels = normalize(training_rasters(chosen, student.input.geometry), student.input)
    calibration = np.arange(len(chosen)) % _CALIBRATE_EVERY == 0
    compared = chosen.take(np.flatnonzero(~calibration))
    texts = {text_key(text): text for text in compared.captions} if text_trained else {}
    tokens = student.tokenize(list(texts.values())).numpy().astype(np.int64)
    try:
        quantize_image_tower(folder, calibration=pixels[calibration])
        quantize_text_tower(folder)
        of_float, of_int8 = (
            _embed(folder, precision, pixels=pixels[~calibration], tokens=tokens)
            for precision in ("float32", "int8")
        )
    except Exception as error:  # the quantizer raises whatever its parts do, as does ONNX Runtime
        _remove(folder)
        reason = f"ONNX Runtime cannot quantize or run a tower: {one_line(error)}"
        return Int8Comparison(images=0, texts=0, left_out_because=(reason,))
    comparison = _compare(of_float, of_int8, right=_pairs(compared, list(texts)))
    reasons = tuple(_shortfalls(comparison, options))
    if reasons:
        _remove(folder)
    return comparison.model_copy(update={"left_out_because": reasons})


def shared_neighbours(one: Array, other: Array) -> float | None:
    """Mean share of each row's k nearest rows, by cosine, that two sets of unit vectors [n, d] both have.

    k is 10, or a third of n where that is less; None where n is below 3. By chance it is k / (n - 1).
    """
    k = min(NEIGHBOURS, len(one) // _FEW)
    return neighbour_overlap(one, other, k) if k else None


def recall(vectors_of_images: Array, vectors_of_texts: Array, right: NDArray[np.bool_]) -> float:
    """Recall at rank 1, the mean of both directions; `right` [n, m] says which texts belong to which images.

    Images without a text ask nothing. Ties with wrong answers count half a rank each.
    """
    similarity = vectors_of_images @ vectors_of_texts.T
    asked = right.any(axis=1)
    to_text = ranks_in(similarity[asked], right[asked]) <= 1
    to_image = ranks_in(similarity.T, right.T) <= 1
    return float((to_text.mean() + to_image.mean()) / 2)


def _distinct_images(samples: Samples, wanted: int) -> Samples:
    """Rows of different images, evenly spread: copies of one would be neighbours whatever the tower does.

    Only as many files are read as it takes to find them; others stand in where there are copies.
    """
    first = {ref: row for row, ref in reversed(list(enumerate(samples.refs)))}
    rows = sorted(first.values())
    by_key: dict[str, int] = {}
    for row in dict.fromkeys([*(rows[place] for place in spread(len(rows), wanted)), *rows]):
        by_key.setdefault(image_key(samples.refs[row], samples.options), row)
        if len(by_key) == wanted:
            break
    return samples.take(sorted(by_key.values()))


def _embed(folder: Path, precision: Precision, *, pixels: Array, tokens: Array) -> _Vectors:
    files = TOWER_FILES[precision]
    return _Vectors(_run(folder / files.image, pixels), _run(folder / files.text, tokens))


def _run(path: Path, inputs: Array) -> Array:
    session = open_session(path)
    dim = session.get_outputs()[0].shape[1]
    parts = [run_session(session, batch) for batch in _batches(inputs)]
    vectors = np.concatenate([np.zeros((0, dim), np.float32), *parts])
    if not np.isfinite(vectors).all():
        msg = f"{path.stem} gives numbers that are not finite"
        raise ValueError(msg)
    return vectors


def _batches(inputs: Array) -> Iterator[Array]:
    return (inputs[start : start + ROWS_AT_ONCE] for start in range(0, len(inputs), ROWS_AT_ONCE))


def _pairs(samples: Samples, keys: list[str]) -> NDArray[np.bool_]:
    own = np.array(text_keys(samples) or ("",) * len(samples), dtype=object)
    return np.array([own == key for key in keys], dtype=bool).reshape(len(keys), len(own)).T


def _compare(of_float: _Vectors, of_int8: _Vectors, *, right: NDArray[np.bool_]) -> Int8Comparison:
    has_texts = bool(right.size)
    return Int8Comparison(
        images=len(of_float.image),
        texts=len(of_float.text),
        image_shared_neighbours=shared_neighbours(of_float.image, of_int8.image),
        text_shared_neighbours=shared_neighbours(of_float.text, of_int8.text),
        recall_float=recall(of_float.image, of_float.text, right) if has_texts else None,
        recall_int8=recall(of_int8.image, of_int8.text, right) if has_texts else None,
    )


def _shortfalls(comparison: Int8Comparison, options: Int8Options) -> Iterator[str]:
    least = options.min_shared_neighbours
    named = {"image": comparison.image_shared_neighbours, "text": comparison.text_shared_neighbours}
    for tower, share in named.items():
        if share is not None and share < least:
            yield f"{tower} tower: {share:.3f} of the nearest neighbours stay, {least:g} must"
    if comparison.recall_float is not None and comparison.recall_int8 is not None:
        loss = comparison.recall_float - comparison.recall_int8
        if loss > options.max_recall_loss:
            yield (
                f"recall falls from {comparison.recall_float:.3f} to {comparison.recall_int8:.3f}, by more "
                f"than {options.max_recall_loss:g}"
            )


def _remove(folder: Path) -> None:
    for name in (TOWER_FILES["int8"].image, TOWER_FILES["int8"].text):
        (folder / name).unlink(missing_ok=True)
