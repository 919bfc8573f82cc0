"""Clinical columns as features."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.cells import number


@dataclass(frozen=True, kw_only=True)
class Clinical:
    """Columns of the patients: numbers with NaN for blanks, and words with "" for blanks."""

    patients: int
    numbers: Mapping[str, Floats]
    words: Mapping[str, tuple[str, ...]]

    def __bool__(self) -> bool:
        return bool(self.numbers or self.words)

    def design(self, train: Ints) -> Floats:
        """Features [n, k] of all patients, whose makings come from the patients `train` alone.

        A number's blanks get the mean, and a column that says so where there are any in `train`. A word is
        one column for each value in `train` but the most frequent, which blanks and values not in `train`
        count as. Columns are not scaled.
        """
        columns: list[Floats] = []
        for values in self.numbers.values():
            blank = np.isnan(values)
            known = values[train][~blank[train]]
            columns.append(np.where(blank, known.mean() if len(known) else 0.0, values))
            if blank[train].any():
                columns.append(blank.astype(np.float64))
        for words in self.words.values():
            column = np.array(words, dtype=object)
            counts = Counter(word for word in column[train].tolist() if word)
            # By count, then by name, so that the order of rows decides nothing.
            levels = sorted(counts, key=lambda word: (-counts[word], word))[1:]
            columns += [(column == level).astype(np.float64) for level in levels]
        return np.stack(columns, axis=1) if columns else np.zeros((self.patients, 0))


def read_clinical(columns: Mapping[str, Sequence[str]], patients: int) -> Clinical:
    """A column whose every cell is a finite number or blank is one of numbers, any other is of words."""
    numbers: dict[str, Floats] = {}
    words: dict[str, tuple[str, ...]] = {}
    for name, cells in columns.items():
        values = [_number(cell) for cell in cells]
        if all(value is not None for value in values):
            numbers[name] = np.array(values, dtype=np.float64)
        else:
            words[name] = tuple(cell.strip() for cell in cells)
    return Clinical(patients=patients, numbers=numbers, words=words)


def _number(cell: str) -> float | None:
    """NaN for a blank, None for what is no finite number."""
    if not cell.strip():
        return math.nan
    value = number(cell)
    return value if math.isfinite(value) else None
