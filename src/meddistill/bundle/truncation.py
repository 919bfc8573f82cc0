"""How much of the captions a student can read."""

import statistics
from collections.abc import Sequence

from meddistill.strict import Strict
from meddistill.students.tokenizers import CaptionTokenizer


class CaptionLengths(Strict):
    """Lengths in tokens, the start and end tokens included. `rate` is the share of captions that are cut."""

    captions: int
    context_length: int
    cut: int
    rate: float
    median: float
    longest: int


def caption_lengths(tokenizer: CaptionTokenizer, captions: Sequence[str]) -> CaptionLengths | None:
    """Lengths of the distinct captions; None where there is none."""
    distinct = sorted(set(captions))
    if not distinct:
        return None
    lengths = tokenizer.lengths(distinct)
    cut = sum(length > tokenizer.context_length for length in lengths)
    return CaptionLengths(
        captions=len(distinct),
        context_length=tokenizer.context_length,
        cut=cut,
        rate=cut / len(distinct),
        median=statistics.median(lengths),
        longest=max(lengths),
    )
