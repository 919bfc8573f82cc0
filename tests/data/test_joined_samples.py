"""Two tables as one: whose rows they are stays known."""

from pathlib import Path

from meddistill.data.samples import Samples, joined
from meddistill.imaging.options import ImageRef


def _samples(names: str, rows: tuple[int, ...]) -> Samples:
    return Samples(refs=tuple(ImageRef(Path(name)) for name in names), texts=tuple(names), rows=rows)


def test_rows_are_those_of_their_tables() -> None:
    """Filtered by `where`, a table does not begin with row 1; ids stay unique all the same."""
    both = joined(_samples("ab", (4, 9)), _samples("cd", (2, 4)), tables=("first", "second"))
    assert both.rows == (4, 9, 2, 4)
    assert len(set(both.ids)) == 4
    assert both.rows_by_table([0, 3, 2]) == {"first": [4], "second": [4, 2]}
    assert both.take([2, 1]).rows_by_table([0, 1]) == {"second": [2], "first": [9]}
    assert _samples("ab", (4, 9)).rows_by_table([1]) == {"table": [9]}
    assert both.texts == ("a", "b", "c", "d")
