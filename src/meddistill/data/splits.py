"""Splits and label fractions by patient, and the refusal of splits that leak."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from meddistill.arrays import Ints
from meddistill.data.draws import draw, unit_draw
from meddistill.data.keys import image_keys as keys_of
from meddistill.data.samples import UNKNOWN_PATIENT, Samples, name_rows
from meddistill.errors import ConfigError, TableError

_SUBJECT = "splits"


def split_by_patient(samples: Samples, fractions: Mapping[str, float], seed: int) -> dict[str, Ints]:
    """Positions of the samples in each split; all rows of a patient are in one.

    A patient's split depends on `seed`, the patient's id and `fractions` alone, so that rows added later move
    nobody. The sizes are therefore those of `fractions` on average only. Raises ConfigError for fractions
    that are not positive or do not sum to 1, and for a split that gets no patient.
    """
    shares = fractions.values()
    if not (fractions and min(shares) > 0 and abs(sum(shares) - 1) <= 1e-9):  # NaN fails every comparison
        rule = f"`fractions` must be positive and sum to 1; got {dict(fractions)}."
        raise ConfigError(_SUBJECT, [rule])
    names = list(fractions)
    edges = np.cumsum([fractions[name] for name in names])[:-1]
    chosen = {
        patient: names[int(np.searchsorted(edges, unit_draw("split", seed, patient), side="right"))]
        for patient in set(samples.patients)
    }
    splits = np.array([chosen[patient] for patient in samples.patients])
    parts = {name: np.flatnonzero(splits == name) for name in names}
    empty = [
        f"`fractions.{name}` must be enough for one patient; got none of {len(chosen)}. "
        "Raise it, or choose another `seed`."
        for name in names
        if not len(parts[name])
    ]
    if empty:
        raise ConfigError(_SUBJECT, empty)
    return parts


def check_leakage(
    named: Mapping[str, Samples], *, image_keys: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Raise TableError if two of the named splits share a patient or an image.

    Images are compared by content, so that a copy under another name counts. `image_keys` are those of
    each split where they are known already. The message names rows and no patient.
    """
    keys = image_keys or {name: keys_of(samples) for name, samples in named.items()}
    mistakes = []
    for first, second in itertools.combinations(named, 2):
        patients = {name: named[name].patients for name in (first, second)}
        mistakes += _shared("patient", patients, named, ignore=UNKNOWN_PATIENT)
        mistakes += _shared("image", {name: keys[name] for name in (first, second)}, named)
    if mistakes:
        raise TableError(_SUBJECT, mistakes)


def _shared(
    what: str, values: Mapping[str, Sequence[str]], named: Mapping[str, Samples], ignore: str | None = None
) -> list[str]:
    first, second = values
    both = set(values[first]) & set(values[second])
    if ignore is not None:
        both = {value for value in both if not value.startswith(ignore)}
    if not both:
        return []
    places = []
    for name in values:
        rows = [row for row, value in zip(named[name].rows, values[name], strict=True) if value in both]
        places.append(f"{name_rows(rows)} of `{name}`")
    plural = f"{len(both)} {what}{'s are' if len(both) > 1 else ' is'}"
    return [
        f"`{first}` and `{second}` must not share {what}s; {plural} in both "
        f"({' and '.join(places)}). Split by patient."
    ]


def label_fraction(samples: Samples, labels: Sequence[str], fraction: float, seed: int) -> Ints:
    """Positions of about `fraction` of the patients, with all their rows; nested, stratified, sorted.

    Within a stratum patients stand in an order that depends on `seed` and their ids alone, and the first
    `ceil(fraction * n)` are taken: a smaller fraction is a subset of a larger one, and every label occurs in
    each. A patient with several labels belongs to the stratum of the one that fewest patients have.
    """
    if not 0 < fraction <= 1:
        msg = f"`fraction` must be in (0, 1]; got {fraction}."
        raise ConfigError(_SUBJECT, [msg])
    if len(labels) != len(samples):
        msg = f"`labels` must have one entry a sample; got {len(labels)} for {len(samples)} samples."
        raise ValueError(msg)
    labels_of: dict[str, set[str]] = defaultdict(set)
    patients_of: dict[str, set[str]] = defaultdict(set)
    for patient, label in zip(samples.patients, labels, strict=True):
        labels_of[patient].add(label)
        patients_of[label].add(patient)
    strata: dict[str, set[str]] = defaultdict(set)
    for patient, own in labels_of.items():
        strata[min(own, key=lambda label: (len(patients_of[label]), label))].add(patient)
    ordered = {label: _ordered(patients, seed) for label, patients in strata.items()}
    # One patient of each label belongs to every fraction, or a rare label could vanish from a small one.
    taken = {_ordered(patients, seed)[0] for patients in patients_of.values()}
    for patients in ordered.values():
        taken.update(patients[: math.ceil(fraction * len(patients) - 1e-9)])
    return np.flatnonzero(np.fromiter((patient in taken for patient in samples.patients), bool))


def _ordered(patients: Iterable[str], seed: int) -> list[str]:
    return sorted(patients, key=lambda patient: (draw("fraction", seed, patient), patient))
