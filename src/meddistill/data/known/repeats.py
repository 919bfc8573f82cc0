"""Rows that stand twice in a published set, and rows to learn from that are tested as well."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from meddistill.data.draws import unit_draw
from meddistill.data.known.draft import SHARES, Row

# The rows that are tested stay as published: scores would not compare otherwise.
_KEPT_FIRST: Final = ("test", "validation", "train")


def without_repeats(rows: Sequence[Row], columns: Sequence[str], *, what: str, notes: list[str]) -> list[Row]:
    """The rows without copies, in their order; two rows are copies where all `columns` agree, case apart.

    Of copies in two splits the one that is tested stays (test, then validation); of copies in one split, the
    first. Counts of both go to `notes`.
    """
    order = sorted(range(len(rows)), key=lambda place: (_KEPT_FIRST.index(rows[place]["split"]), place))
    owner: dict[Hashable, str] = {}
    kept: set[int] = set()
    within = across = 0
    for place in order:
        split = rows[place]["split"]
        key = tuple(" ".join(rows[place][name].lower().split()) for name in columns)
        if key not in owner:
            owner[key] = split
            kept.add(place)
        elif owner[key] == split:
            within += 1
        else:
            across += 1
    if within:
        notes.append(f"{within} repeated {what} of one split left out")
    if across:
        notes.append(f"{across} {what} left out of training or validation: they are tested as well")
    return [row for place, row in enumerate(rows) if place in kept]


def shared_images(rows: Iterable[Row]) -> set[str]:
    """Images that rows of several splits have in common."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["image"], set()).add(row["split"])
    return {image for image, own in splits.items() if len(own) > 1}


def drawn_split(patient: str, *, seed: int = 0) -> str:
    """The split of a patient in a set that comes without splits: a hash of the id, 70/10/20 on average."""
    place, edge = unit_draw("known split", seed, patient), 0.0
    for name, share in SHARES.items():
        edge += share
        if place < edge:
            return name
    return "test"
