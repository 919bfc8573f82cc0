"""Who the patients are and what each image shows, as a function of the seed and a number.

Every number is drawn from a generator of its own, seeded by (seed, purpose, index): nothing depends on how
many images there are or in which order they are made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from meddistill.data.phantom import (
    ct,
    dermatology,
    endoscopy,
    fundus,
    histology,
    mri,
    oct,
    ultrasound,
    xray,
)
from meddistill.data.phantom.config import Modality, PhantomConfig
from meddistill.data.phantom.draw import Case, Drawing
from meddistill.data.phantom.vocabulary import WORDS

Purpose = Literal["patient", "split", "image", "caption", "questions", "outcome"]
Split = Literal["train", "val", "test"]

_PURPOSES: tuple[Purpose, ...] = ("patient", "split", "image", "caption", "questions", "outcome")
_SPLITS: tuple[Split, ...] = ("train",) * 7 + ("val",) + ("test",) * 2
_FINDINGS = 3

DRAW: Mapping[Modality, Callable[[np.random.Generator, int, Case], Drawing]] = {
    "xray": xray.draw,
    "ct": ct.draw,
    "mri": mri.draw,
    "ultrasound": ultrasound.draw,
    "fundus": fundus.draw,
    "oct": oct.draw,
    "dermatology": dermatology.draw,
    "histology": histology.draw,
    "endoscopy": endoscopy.draw,
}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A synthetic patient: one modality, one finding, a few images. Age in years."""

    index: int
    case: Case
    split: Split
    sex: Literal["female", "male"]
    age: int

    @property
    def id(self) -> str:
        """The synthetic patient id, such as `P00012`."""
        return f"P{self.index:05d}"

    @property
    def age_band(self) -> str:
        """The age in bands of twenty years, such as `40-59`."""
        low = self.age // 20 * 20
        return f"{low}-{low + 19}"


def generator(config: PhantomConfig, purpose: Purpose, *index: int) -> np.random.Generator:
    """The generator of one thing; streams of different purposes or indices are independent."""
    return np.random.default_rng([config.seed, _PURPOSES.index(purpose), *index])


def patient_of(config: PhantomConfig, sample: int) -> int:
    """The index of the patient whom image number `sample` shows."""
    return sample // config.images_per_patient


@lru_cache(maxsize=64)
def patient(config: PhantomConfig, index: int) -> Patient:
    """Patient number `index`: modalities take turns, then findings, so that every count is balanced.

    Of ten patients in a row with the same modality and finding, seven are in train, one in val, two in test.
    """
    kinds = len(config.modalities)
    modality, turn = config.modalities[index % kinds], index // kinds
    which, rank = turn % _FINDINGS, turn // _FINDINGS
    order = generator(config, "split", index % kinds, which, rank // len(_SPLITS)).permutation(len(_SPLITS))
    rng = generator(config, "patient", index)
    return Patient(
        index=index,
        case=_case(rng, modality, which),
        split=_SPLITS[order[rank % len(_SPLITS)]],
        sex="female" if rng.random() < 0.5 else "male",
        age=int(np.clip(rng.normal(60, 14), 20, 94)),
    )


def _case(rng: np.random.Generator, modality: Modality, which: int) -> Case:
    finding = WORDS[modality].findings[which]
    if finding.normal:
        return Case(modality=modality, finding=finding)
    severity = float(rng.beta(1.2, 1.2))
    grade = int(rng.integers(1, 4))
    return Case(
        modality=modality,
        finding=finding,
        severity=severity,
        grade=min(1 + int(3 * severity), 3) if finding.graded_by_size else grade,
        side=finding.sides[int(rng.integers(len(finding.sides)))] if finding.sides else "",
        place=finding.places[int(rng.integers(len(finding.places)))] if finding.places else "",
    )


def draw_sample(config: PhantomConfig, sample: int) -> tuple[Patient, Drawing]:
    """Image number `sample` and its patient; the size of a lesion varies a little between the images."""
    person = patient(config, patient_of(config, sample))
    rng = generator(config, "image", sample)
    case = person.case
    measured = float(np.clip(case.severity + rng.normal(0, 0.03), 0.0, 1.0))
    if not case.finding.normal:
        case = replace(case, severity=measured)
    return person, DRAW[case.modality](rng, config.size, case)
