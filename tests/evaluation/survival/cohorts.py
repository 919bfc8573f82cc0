"""Small cohorts with known hazards, and what libraries want of them."""

import numpy as np
import pytest


def cohort(
    n: int = 60, *, width: int = 3, seed: int = 0, ties: bool = False, signal: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [n, width], times, events: exponential hazards of the first feature, random censoring."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, width))
    died = random.exponential(10 * np.exp(-signal * features[:, 0]))
    left = random.exponential(15, size=n)
    times, events = np.minimum(died, left), died <= left
    return features, np.ceil(times / 2) if ties else times, events


def outcome(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """What scikit-survival calls y."""
    return pytest.importorskip("sksurv.util").Surv.from_arrays(events, times)
