"""Numbers and names as a reader wants them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SEEN: Final = "†"  # beside scores on a data set that the model was pretrained on
DASH: Final = "–"
MINUS: Final = "−"
SHADES: Final = 7  # of a cell, pale to dark
_THIN: Final = "\u202f"  # narrow no-break space between thousands and before units

FAMILIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "zero_shot": "zero-shot",
        "linear_probe": "linear probe",
        "zero_shot_multilabel": "zero-shot, several labels",
        "linear_probe_multilabel": "linear probe, several labels",
        "knn": "nearest neighbours",
        "retrieval": "retrieval",
        "survival": "survival",
        "segmentation_probe": "segmentation",
        "vqa_closed_set": "closed-set question answering",
        "vqa_zero_shot": "zero-shot question answering",
        "bag_classification": "bags of images",
        "mean": "mean",
    }
)
METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "balanced_accuracy": "balanced accuracy",
        "accuracy": "accuracy",
        "auc": "macro AUC",
        "f1": "macro F1",
        "average_precision": "average precision",
        "mean_average_precision": "mean average precision",
        "ece": "ECE (equal width)",
        "adaptive_ece": "ECE (equal mass)",
        "brier": "Brier score",
        "nll": "negative log likelihood",
        "ppv": "PPV",
        "npv": "NPV",
        "mean_recall": "mean recall",
        "c_index": "C-index",
        "uno_c": "Uno’s C-index",
        "mean_auc": "mean AUC over horizons",
        "integrated_brier": "integrated Brier score",
        "dice": "Dice",
        "iou": "IoU",
        "missed": "structures missed",
        "invented": "structures invented",
        "quadratic_kappa": "quadratic κ",
        "mean of main metrics": "mean of main metrics",
    }
)
# What a row of a task is, and what one row of its predictions is: that is what numbers on groups count.
_UNITS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "retrieval": ("pair", "query"),
        "survival": ("image", "patient"),
        "bag_classification": ("image", "bag"),
        "vqa_closed_set": ("question", "question"),
        "vqa_zero_shot": ("question", "question"),
    }
)
DIRECTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {"image_to_text": "image → text", "text_to_image": "text → image"}
)


def number(value: float | None, digits: int = 3) -> str:
    """`0.712`; a dash where there is none; a true minus sign, but none before a zero."""
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.080` or `−0.012`; what rounds to zero has no sign."""
    if value is None:
        return DASH
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def between(low: float | None, high: float | None, digits: int = 3) -> str:
    """`0.66 to 0.75`; empty where there is no interval."""
    return "" if low is None or high is None else f"{number(low, digits)} to {number(high, digits)}"


def signed_between(low: float | None, high: float | None, digits: int = 3) -> str:
    """`−0.01 to +0.12`; empty where there is no interval.

    One more digit where a bound would round to zero, for then nobody could see on which side of zero it is.
    """
    if low is None or high is None:
        return ""
    if any(bound != 0 and round(bound, digits) == 0 for bound in (low, high)):
        digits += 1
    return f"{signed(low, digits)} to {signed(high, digits)}"


def probability(value: float | None) -> str:
    """`0.031`, `<0.001`; a dash where there is none."""
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else number(value, 3 if value < 0.1 else 2)


def shade_of(share: float) -> int:
    """The shade of a share of one, 0 (pale) to 6 (dark)."""
    return round(min(max(share, 0.0), 1.0) * (SHADES - 1))


def count(value: int) -> str:
    """`12 345` with narrow spaces."""
    return f"{value:,}".replace(",", _THIN)


def large(value: float | None) -> str:
    """`840`, `12.3 k`, `1.24 M`, `86.2 M`; three digits that matter."""
    if value is None:
        return DASH
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{_three(value / size)}{_THIN}{unit}"
    return _three(value)


def rate(value: float) -> str:
    """`4.37`, `86.2`, `2 170`: three digits that matter, none behind the point from 100 on."""
    return _three(value) if value < 100 else count(round(float(f"{value:.3g}")))


def times(ratio: float) -> str:
    """`2.8`, `12`, `1.07`: how many times."""
    return _three(ratio) if ratio < 1.1 else f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def family(name: str) -> str:
    """A family of tasks in words."""
    return FAMILIES.get(name, name)


def plain_name(name: str) -> str:
    """A name of a task or metric without underscores."""
    return name.replace("_", " ")


def metric(name: str) -> str:
    """A metric in words, those of retrieval included."""
    for direction, words in DIRECTIONS.items():
        if name.startswith(direction):
            return f"{words}: {plain_name(name.removeprefix(direction + '_'))}"
    if name.startswith("auc_at_"):
        return f"AUC at {name.removeprefix('auc_at_')}"
    return METRICS.get(name, plain_name(name))


def plural(number_of: int, word: str) -> str:
    """`1 task`, `3 tasks`."""
    return f"{count(number_of)} {word if number_of == 1 else _many(word)}"


def _many(word: str) -> str:
    return f"{word[:-1]}ies" if word.endswith("ry") else f"{word}s"


def rows_of(number_of: int, family: str) -> str:
    """`40 images`, `277 pairs`, `160 questions`: how many rows a task has."""
    return plural(number_of, _UNITS.get(family, ("image", "image"))[0])


def units_of(number_of: int, family: str) -> str:
    """`40 images`, `277 queries`, `55 patients`: how many decisions a task counts."""
    return plural(number_of, _UNITS.get(family, ("image", "image"))[1])


def _three(value: float) -> str:
    text = f"{value:.3g}"
    return f"{float(text):.0f}" if "e" in text else text
