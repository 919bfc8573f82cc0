"""Draws of training rows: shares of the patients, and k images of each class or label; both are nested."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from meddistill.arrays import Ints
from meddistill.data.draws import draw
from meddistill.data.samples import Samples
from meddistill.data.splits import label_fraction
from meddistill.evaluation.tasks.classification.config import LinearProbeConfig
from meddistill.evaluation.tasks.classification.multilabel_config import LinearProbeMultilabelConfig

_SETTING: Final = re.compile(r"(\d+) shots? a (?:class|label)")


def draws(
    samples: Samples, labels: Sequence[str], config: LinearProbeConfig | LinearProbeMultilabelConfig, of: str
) -> Iterator[tuple[str, int, Ints]]:
    """Words for the fraction ("" for the largest) or the shots `of` each class or label, seed, positions."""
    for fraction in config.fractions:
        setting = "" if fraction == config.fractions[0] else fraction_setting(fraction)
        if fraction == 1:
            yield setting, 0, np.arange(len(samples))
            continue
        for seed in range(config.seeds):
            yield setting, seed, label_fraction(samples, labels, fraction, seed)
    for shots in config.shots:
        for seed in range(config.seeds):
            yield shots_setting(shots, of), seed, few_shot(samples, labels, shots, seed)


def few_shot(samples: Samples, labels: Sequence[str], shots: int, seed: int) -> Ints:
    """Positions of `shots` images of each class, sorted; all of a class that has fewer.

    Patients of a class stand in an order that depends on `seed` and their ids alone, and so do the images of
    a patient. One image of each patient is taken in turn, so that k images are of k patients where a class
    has as many. A smaller number of shots is a subset of a larger one.
    """
    by_label: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (label, patient) in enumerate(zip(labels, samples.patients, strict=True)):
        by_label[label][patient].append(row)
    taken: list[int] = []
    for label, patients in by_label.items():
        places = []
        for patient, rows in patients.items():
            place = draw("shot", seed, label, patient)
            ordered = sorted(rows, key=lambda row: (draw("shot image", seed, samples.ids[row]), row))
            places += [(turn, place, row) for turn, row in enumerate(ordered)]
        taken += [row for _, _, row in sorted(places)[:shots]]
    return np.array(sorted(taken), dtype=np.int64)


def one_row_a_label(truth: Ints, labels: Sequence[str]) -> tuple[Ints, list[str]]:
    """Rows of several labels as rows of one: each as often as it has labels, once under "" if it has none.

    `truth` [n, L] is 1 where a label is there. Returns positions of rows, and the label of each.
    """
    present = truth == 1
    rows, columns = np.nonzero(np.column_stack([present, ~present.any(axis=1)]))
    return rows.astype(np.int64), [(*labels, "")[column] for column in columns]


def fraction_setting(fraction: float) -> str:
    """What the results call a share of the training patients."""
    return f"{100 * fraction:g} % of training patients"


def not_all_labels(fractions: Sequence[float]) -> list[str]:
    """A warning where the main numbers are of a fraction."""
    largest = max(fractions)
    return [] if largest == 1 else [f"the main numbers are of {fraction_setting(largest)}"]


def shots_setting(shots: int, of: str = "class") -> str:
    """What the results call the setting."""
    return f"{shots} shot{'' if shots == 1 else 's'} a {of}"


def shots_of(setting: str) -> int | None:
    """The number of shots that a setting of the results names; None for another setting."""
    match = _SETTING.fullmatch(setting)
    return int(match[1]) if match else None


def shortages(counts: Mapping[str, int], shots: Sequence[int]) -> list[str]:
    """A sentence for classes without a training image, and one for those with fewer than asked for."""
    absent = [name for name, count in counts.items() if not count]
    said = [f"no training image of {', '.join(absent)}: never predicted"] if absent else []
    short = [f"{name} ({count})" for name, count in counts.items() if 0 < count < max(shots, default=0)]
    if short:
        said.append(f"fewer training images than {max(shots)} shots of {', '.join(short)}: all are used")
    return said
