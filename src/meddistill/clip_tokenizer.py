"""CLIP's byte-pair encoding as open_clip has it; its tables are built once a process."""

from copy import copy
from functools import cache
from typing import Any

from open_clip.tokenizer import SimpleTokenizer


def clip_tokenizer(context_length: int) -> Any:
    """A tokenizer of its own context length and cleaning, over tables that all share."""
    tokenizer = copy(_built())
    tokenizer.context_length = context_length
    return tokenizer


@cache
def _built() -> Any:
    return SimpleTokenizer()  # a third of a second
