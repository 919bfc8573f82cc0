"""The exported models against the trained student, before anything leaves the house.

Three comparisons, each by the cosine between the two embeddings of one input:

- image tower: the training path's rasters through both;
- text tower: captions, tokenised by `tokenizer.json` and by the student, whose ids must be equal;
- file to embedding: files decoded, resized and normalised by nothing but the bundle's own
  `preprocessing.json`, against the training path.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer

from meddistill.arrays import unit_length
from meddistill.bundle.onnx_runs import Array, open_session, run_session, spread, training_rasters
from meddistill.bundle_format import IMAGE_MODEL, PREPROCESSING, TEXT_MODEL, TOKENIZER, Preprocessing
from meddistill.data.samples import Samples
from meddistill.errors import ParityError
from meddistill.imaging import decode, normalize, normalize_text, rasterize
from meddistill.strict import Strict
from meddistill.students.dual_encoder import DualEncoder

MIN_COSINE: Final = 0.99999
BATCHES: Final = (1, 2, 7)
MAX_CAPTIONS: Final = 2000
PROBES: Final = (
    "",
    "Chest X-ray: “no” eﬃusion, it’s CLEAR",
    "5 &lt; 6&nbsp;mm &amp;amp; more",
    "doesnâ€™t",
    "ΣΊΣΥΦΟΣ 胸部 e\u0301 ½",
    "word " * 400,
)


class Parity(Strict):
    """The least cosines that were found, and over how much. All are at least `threshold`."""

    image_cosine: float
    text_cosine: float
    file_cosine: float
    images: int
    captions: int
    batches: tuple[int, ...] = BATCHES
    threshold: float = MIN_COSINE


@torch.no_grad()
def check_parity(student: DualEncoder, folder: Path, *, samples: Samples) -> Parity:
    """Compare the bundle being written with the student.

    Parameters
    ----------
    student
        On the CPU, in evaluation mode.
    folder
        Holds the ONNX models, `tokenizer.json` and `preprocessing.json`.
    samples
        Images and captions to compare on; ten images and at most 2,000 captions are taken, evenly spread.

    Raises
    ------
    ParityError
        If a cosine is below 0.99999 or not a number, or if token ids differ.
    ImageError
        If an image cannot be read.
    """
    chosen = samples.take(spread(len(samples), sum(BATCHES)))
    rasters = training_rasters(chosen, student.input.geometry)
    image = open_session(folder / IMAGE_MODEL)
    expected = unit_length(_numpy(student.embed_images(torch.from_numpy(rasters))))
    pixels = normalize(rasters, student.input)
    image_cosine = min(
        _cosine("image tower", expected[rows], run_session(image, pixels[rows]))
        for rows in _batches(len(pixels))
    )
    file_cosine = _cosine("file to embedding", expected, run_session(image, _from_files(folder, chosen)))
    captions = [*PROBES, *_some(samples.captions)]
    text_cosine = _check_text(student, folder, captions)
    return Parity(
        image_cosine=image_cosine,
        text_cosine=text_cosine,
        file_cosine=file_cosine,
        images=len(chosen),
        captions=len(captions),
    )


def _check_text(student: DualEncoder, folder: Path, captions: Sequence[str]) -> float:
    expected_ids = student.tokenize(captions).to(torch.int64)
    tokenizer = Tokenizer.from_buffer((folder / TOKENIZER).read_bytes())
    encoded = tokenizer.encode_batch([normalize_text(caption) for caption in captions])
    ids = np.array([each.ids for each in encoded], dtype=np.int64)
    if ids.shape != tuple(expected_ids.shape) or not np.array_equal(ids, expected_ids.numpy()):
        different = sum(row.ids != want.tolist() for row, want in zip(encoded, expected_ids, strict=True))
        # The captions themselves stay out of the message: it may end up in a log.
        msg = (
            f"`{TOKENIZER}` must give the student's ids; got others for {different} of {len(captions)} "
            "captions. Nothing was exported. Please report this with the version of tokenizers."
        )
        raise ParityError(msg)
    shown = spread(len(captions), sum(BATCHES))
    ids, expected_ids = ids[shown], expected_ids[shown]
    expected = unit_length(_numpy(student.embed_tokens(expected_ids)))
    session = open_session(folder / TEXT_MODEL)
    return min(
        _cosine("text tower", expected[rows], run_session(session, ids[rows])) for rows in _batches(len(ids))
    )


def _from_files(folder: Path, samples: Samples) -> Array:
    """Pixels as the runtime makes them, by the written file alone."""
    written = Preprocessing.model_validate_json((folder / PREPROCESSING).read_bytes())
    rasters = [rasterize(decode(ref, written.decode), written.input.geometry) for ref in samples.refs]
    return normalize(np.stack(rasters), written.input)


def _batches(rows: int) -> Iterator[slice]:
    """Batches of 1, 2 and 7 rows; of fewer rows where there are fewer."""
    start = 0
    for size in BATCHES:
        if start + size > rows:
            start = 0
        yield slice(start, start + size)
        start += size


def _some(captions: Sequence[str]) -> list[str]:
    distinct = sorted(set(captions))
    return [distinct[row] for row in spread(len(distinct), MAX_CAPTIONS)]


def _numpy(embeddings: torch.Tensor) -> Array:
    array: Array = embeddings.detach().to(torch.float64).numpy()
    return array


def _cosine(what: str, expected: Array, actual: Array) -> float:
    least = float((expected * unit_length(actual.astype(np.float64))).sum(axis=1).min())
    # Not `least < MIN_COSINE`: that lets NaN through.
    if not least >= MIN_COSINE:
        msg = (
            f"The exported {what} must agree with the student to a cosine of {MIN_COSINE}; got {least:.6f}. "
            "Nothing was exported. Please report this with the student's configuration."
        )
        raise ParityError(msg)
    return min(least, 1.0)
