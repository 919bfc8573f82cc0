"""The student's tokenizer as one `tokenizer.json` for the tokenizers library, without torch or open_clip.

It takes texts that `imaging.normalize_text` has cleaned, and gives the ids that the student was trained on:
a row of exactly `context_length` ids, longer captions cut so that the end token stays.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from meddistill.errors import BundleError
from meddistill.students.tokenizers import CaptionTokenizer, ClipTokenizer, HuggingFaceTokenizer

_START: Final = "<start_of_text>"
_END: Final = "<end_of_text>"
_END_OF_WORD: Final = "</w>"
_PADDING: Final = 0
_SURROGATES: Final = range(0xD800, 0xE000)
_BLOCK: Final = 256
# Case is gone when texts arrive, but for the long s, which lower() keeps and open_clip's pattern, ignoring
# case, takes for an s.
_CONTRACTIONS: Final = "'[sſ]|'t|'re|'ve|'m|'ll|'d"
_NOT_QUITE_SPECIAL: Final = "<[sſ]tart_of_text>"


def write_tokenizer(tokenizer: CaptionTokenizer, path: Path) -> None:
    """Write `tokenizer.json`.

    Raises
    ------
    BundleError
        If a Hugging Face tokenizer has no fast version, which alone can be written as one file.
    """
    if isinstance(tokenizer, ClipTokenizer):
        written = _byte_pairs(tokenizer)
    elif isinstance(tokenizer, HuggingFaceTokenizer):
        written = _hugging_face(tokenizer)
    else:
        msg = f"`tokenizer` must be CLIP's or a Hugging Face one; got {type(tokenizer).__name__}."
        raise BundleError(msg)
    path.write_text(written.to_str(), encoding="utf-8")


def _byte_pairs(clip: ClipTokenizer) -> Tokenizer:
    source: Any = clip.tokenizer
    vocabulary, merges = dict(source.encoder), list(source.bpe_ranks)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_END_OF_WORD))
    split = pre_tokenizers.Split(Regex(_pattern(source)), behavior="removed", invert=True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    # Other spellings of the special tokens would be added to the vocabulary, as ids 49408 and 49409.
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in (_START, _END)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, vocabulary[_START]), (_END, vocabulary[_END])]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.enable_truncation(clip.context_length)
    tokenizer.enable_padding(length=clip.context_length, pad_id=_PADDING, pad_token=source.decoder[_PADDING])
    return tokenizer


def _hugging_face(hugging_face: HuggingFaceTokenizer) -> Tokenizer:
    source: Any = hugging_face.tokenizer.tokenizer
    fast = getattr(source, "backend_tokenizer", None)
    if fast is None:
        msg = (
            f"`text.hf` must have a fast tokenizer to be bundled; got {type(source).__name__}. "
            "Choose a text tower whose folder has a tokenizer.json."
        )
        raise BundleError(msg)
    tokenizer = Tokenizer.from_str(fast.to_str())
    tokenizer.enable_truncation(hugging_face.context_length)
    tokenizer.enable_padding(
        direction=source.padding_side,
        length=hugging_face.context_length,
        pad_id=source.pad_token_id,
        pad_token=source.pad_token,
        pad_type_id=source.pad_token_type_id,
    )
    return tokenizer


@cache
def _classes(pattern: Any) -> tuple[str, str, str]:
    """Letters, numbers and spaces as open_clip's pattern knows them, each the inside of a character class.

    Libraries differ in the edition of Unicode they know, so `\\p{L}` is not one thing: 12 of 3,000 random
    strings came out with other ids. The file therefore spells the classes out, as they were in training.
    Each character is shown to the pattern as `cc!`, whose pieces tell what it is. A block of characters that
    is one piece is all letters or nothing that is named here, which its first character tells.
    """
    pieces_of = {2: "letters", 3: "numbers"}
    codes: dict[str, list[int]] = {"letters": [], "numbers": [], "spaces": []}
    for start in range(0, sys.maxunicode + 1, _BLOCK):
        block = [code for code in range(start or 1, start + _BLOCK) if code not in _SURROGATES]
        whole = "".join(map(chr, block))
        alike = pattern.findall(whole) == [whole]
        for first in block[:1] if alike else block:
            pieces = pattern.findall(f"{chr(first)}{chr(first)}!")
            kind = "spaces" if pieces == ["!"] else pieces_of.get(len(pieces))
            if kind is not None:
                codes[kind] += block if alike else [first]
    letters, numbers, spaces = (_ranges(codes[kind]) for kind in ("letters", "numbers", "spaces"))
    return letters, numbers, spaces


def _ranges(codes: list[int]) -> str:
    """`a-zà-ö…` of sorted code points; literal characters, which every regular expression engine reads."""
    parts: list[str] = []
    start = previous = codes[0]
    for code in [*codes[1:], -1]:
        if code == previous + 1:
            previous = code
            continue
        parts.append(chr(start) if start == previous else f"{chr(start)}-{chr(previous)}")
        start = previous = code
    return "".join(parts)


def _pattern(source: Any) -> str:
    letters, numbers, spaces = _classes(source.pat)
    return f"{_NOT_QUITE_SPECIAL}|{_CONTRACTIONS}|[{letters}]+|[{numbers}]|[^{spaces}{letters}{numbers}]+"
