"""Survival times that depend on the lesion, with administrative censoring."""

from typing import NamedTuple

import numpy as np

from meddistill.data.phantom.draw import Case

_SHAPE = 1.3
_MEDIAN_HEALTHY = 90.0
_PER_SEVERITY, _PER_GRADE, _PER_YEAR = 2.4, 0.45, 0.02
_ENROLMENT, _STUDY_END = 36.0, 72.0


class Outcome(NamedTuple):
    """Observed time in months since the first image; `event` is 1 for death, 0 for the end of the study."""

    time_months: float
    event: int


def log_hazard(case: Case, *, age: int) -> float:
    """Log hazard ratio against a healthy patient of 60: lesion size, grade, kind of lesion, age."""
    grown = _PER_SEVERITY * case.severity + _PER_GRADE * max(case.grade - 1, 0)
    return case.finding.log_hazard + grown + _PER_YEAR * (age - 60)


def survival(rng: np.random.Generator, case: Case, *, age: int) -> Outcome:
    """A Weibull time with proportional hazards, S(t) = exp(-ln 2 (t / 90)^1.3 e^h), by inversion.

    h is `log_hazard`. Patients enter uniformly over 36 months and the study ends after 72, so that follow-up
    lasts 36 to 72 months and censoring does not depend on the lesion.
    """
    exposure = rng.standard_exponential() / (np.log(2.0) * np.exp(log_hazard(case, age=age)))
    time = _MEDIAN_HEALTHY * exposure ** (1 / _SHAPE)
    follow_up = _STUDY_END - rng.uniform(0.0, _ENROLMENT)
    return Outcome(max(round(float(min(time, follow_up)), 1), 0.1), int(time <= follow_up))
