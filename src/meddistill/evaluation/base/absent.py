"""Classes of a task that no tested row has: they must not vanish without a word."""

from collections.abc import Iterable, Sequence


def absent_classes(classes: Sequence[str], truth: Iterable[int]) -> list[str]:
    """One sentence that names the `classes` which are nobody's `truth` (their numbers), or none."""
    there = set(truth)
    lacking = [name for number, name in enumerate(classes) if number not in there]
    if not lacking:
        return []
    return [f"no tested rows of: {', '.join(lacking)}; means over classes run over the others"]
