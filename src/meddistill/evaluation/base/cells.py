"""Cells of a table as numbers."""

import math


def number(cell: str) -> float:
    """The number that a cell holds; NaN for a blank and for other words."""
    try:
        return float(cell)
    except ValueError:
        return math.nan
