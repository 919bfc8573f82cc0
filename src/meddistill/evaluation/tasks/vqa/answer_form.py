"""Answers as VQA v2 compares them.

The rules of the official evaluation of VQA v2 (Antol et al., "VQA: Visual Question Answering", ICCV 2015;
METER and M3AE carry them too), in its order:

1. Line ends and tabs become spaces; white space at the ends goes.
2. Punctuation of `; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? !`, one mark after the other: where the mark
   stands beside a space anywhere in the answer, or the answer has a comma between digits, all of its kind
   are deleted; otherwise each becomes a space. So `left-sided` is two words, and `x - ray` two words as well.
3. A full stop goes, unless a digit follows it.
4. Letters are lowered; the number words zero to ten, and `none`, become digits; `a`, `an` and `the` go.
5. Contractions that lost their apostrophe get it back: `dont` becomes `don't`.

Three deviations, none of which touches plain answers: Unicode is brought into one form first (NFKC, curly
quotes straight); an answer that rules 2 to 4 leave empty ("A", as in hepatitis A) is kept as it was, lowered;
contractions of two (`couldn't've`) are left as they are.
"""

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_MARKS: Final = tuple(';/[]"{}()=+\\_-><@`,?!')
_COMMA_IN_NUMBER: Final = re.compile(r"\d,\d")
_FULL_STOP: Final = re.compile(r"\.(?!\d)")
_QUOTES: Final = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
_ARTICLES: Final = frozenset({"a", "an", "the"})
_DIGITS: Final[Mapping[str, str]] = MappingProxyType(
    {"none": "0"}
    | {
        word: str(number)
        for number, word in enumerate(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
        )
    }
)
_NEGATED: Final = (
    "ain", "aren", "can", "couldn", "didn", "doesn", "don", "hadn", "hasn", "haven", "isn", "mightn", "mustn",
    "needn", "oughtn", "shan", "shouldn", "wasn", "weren", "won", "wouldn",
)  # fmt: skip
# Not `ill`, `its`, `well`, `were`, `shed`, `wed`, `hell`, `shell`, `id`: words of their own.
_JOINED: Final = (
    "could've", "he'd", "he's", "how'd", "how'll", "how's", "i'm", "i've", "it'd", "it'll", "might've",
    "must've", "she's", "should've", "that'd", "that's", "there'd", "there're", "there's", "they'd",
    "they'll", "they're", "they've", "we've", "what'll", "what're", "what's", "what've", "when's", "where'd",
    "where's", "where've", "who'd", "who'll", "who's", "who've", "why'll", "why're", "why's", "would've",
    "y'all", "you'd", "you'll", "you're", "you've", "let's", "o'clock", "ma'am",
)  # fmt: skip
_CONTRACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {f"{stem}t": f"{stem}'t" for stem in _NEGATED if stem != "can"}
    | {"cant": "can't"}
    | {whole.replace("'", ""): whole for whole in _JOINED}
)


def normalize_answer(answer: str) -> str:
    """The form in which answers are compared; empty for a blank answer only."""
    plain = " ".join(unicodedata.normalize("NFKC", answer).translate(_QUOTES).split())
    return " ".join(_words(_FULL_STOP.sub("", _without_marks(plain)))) or plain.lower()


def _without_marks(text: str) -> str:
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    clean = text
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        clean = clean.replace(mark, "" if beside_space or in_number else " ")
    return clean


def _words(text: str) -> list[str]:
    counted = [_DIGITS.get(word, word) for word in text.lower().split()]
    return [_CONTRACTIONS.get(word, word) for word in counted if word not in _ARTICLES]
