"""Newton's method for the small, strictly convex problems of the survival heads."""

from collections.abc import Callable
from typing import Final

import numpy as np

from meddistill.arrays import Floats

# The value, gradient [k] and Hessian [k, k] of what is to be made small.
Derivatives = tuple[float, Floats, Floats]

_MOST_STEPS: Final = 100
_SMALL: Final = 1e-10
_MOST_HALVINGS: Final = 40
_ROUNDING: Final = 1e-13


def minimize(derivatives: Callable[[Floats], Derivatives], start: Floats) -> Floats:
    """The minimum of a strictly convex function: full Newton steps, halved until the value falls.

    Ends when the largest entry of the gradient is below 1e-10, or with a step after which float64 shows no
    fall: so near the minimum that step still squares the error. Quasi-Newton (L-BFGS) would need no Hessian,
    but with at most some dozen unknowns the exact one costs little and reaches stationarity to rounding.
    """
    point = start
    value, gradient, hessian = derivatives(point)
    for _ in range(_MOST_STEPS):
        if float(np.abs(gradient).max(initial=0.0)) < _SMALL:
            break
        step = np.linalg.solve(hessian, gradient)
        for halving in range(_MOST_HALVINGS):
            candidate = point - step * 0.5**halving
            found = derivatives(candidate)
            if found[0] <= value + _ROUNDING * (1 + abs(value)):  # NaN and infinity are not
                break
        else:
            break
        fell = found[0] < value
        point, (value, gradient, hessian) = candidate, found
        if not fell:
            break
    return point
