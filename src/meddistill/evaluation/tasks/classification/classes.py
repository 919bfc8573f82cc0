"""Labels as numbers of classes, and what a reader has to know of the classes of the tested rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from meddistill.arrays import Ints
from meddistill.errors import TableError
from meddistill.evaluation.base.split import EvalSplit

FEW_PATIENTS: Final = 5


def training_classes(part: EvalSplit, labels: Iterable[str], *, column: str, task: str) -> tuple[str, ...]:
    """The classes of the training rows by the alphabet. Raises TableError where these are fewer than two."""
    classes = tuple(sorted(set(labels)))
    if len(classes) < 2:
        rule = (
            f"`{column}` must have two classes at least for task `{task}`; got {classes[0]!r} alone. "
            "Widen `where`."
        )
        raise TableError(part.subject, [rule])
    return classes


def class_numbers(
    part: EvalSplit, labels: Sequence[str], classes: Sequence[str], *, column: str, task: str, of: str
) -> Ints:
    """Class number of every label, each one `of` the rows or bags.

    Raises TableError where a label is none of `classes`.
    """
    index = {name: number for number, name in enumerate(classes)}
    unknown = Counter(each for each in labels if each not in index)
    if unknown:
        counted = ", ".join(f"{name!r} ({count} {of})" for name, count in unknown.most_common(5))
        rule = (
            f"`{column}` must be a class of task `{task}` ({', '.join(classes)}); got {counted}. "
            "Add the classes, or leave these rows out by `where`."
        )
        raise TableError(part.subject, [rule])
    return np.array([index[each] for each in labels], dtype=np.int64)


def class_facts(labels: Sequence[str], patients: Ints, classes: Sequence[str]) -> dict[str, Any]:
    """Tested rows (or bags) and patients of each class that occurs; warnings of absent and rare classes."""
    owners: dict[str, set[int]] = {}
    for label, patient in zip(labels, patients.tolist(), strict=True):
        owners.setdefault(label, set()).add(patient)
    rare = ", ".join(name for name in sorted(owners) if len(owners[name]) < FEW_PATIENTS)
    warnings = absent_classes(classes, labels)
    if rare:
        warnings.append(f"fewer than {FEW_PATIENTS} test patients of {rare}: read its intervals with care")
    counts = sorted(Counter(labels).items())
    known = {name: {"n": count, "patients": len(owners[name])} for name, count in counts}
    return {"classes": known, "warnings": warnings}


def absent_classes(classes: Sequence[str], labels: Iterable[str]) -> list[str]:
    """One sentence that names the `classes` without a label, or none: they must not vanish unseen."""
    there = set(labels)
    absent = ", ".join(name for name in classes if name not in there)
    return [f"no tested rows of: {absent}; means over classes run over the others"] if absent else []
