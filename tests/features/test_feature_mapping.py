"""Many files as one array: whatever the alignment, rows are numpy's rows."""

from pathlib import Path

import numpy as np
import pytest

from meddistill.features.mapping import MappedPiece, MappedRows

PAGE = 4096


def pieces_of(folder: Path, values: np.ndarray, cuts: list[int], offset: int) -> list[MappedPiece]:
    pieces = []
    for number, part in enumerate(np.split(values, cuts)):
        path = folder / f"{number}.bin"
        path.write_bytes(b"\x01" * offset + part.tobytes() + b"\x02" * 10)
        pieces.append(MappedPiece(path, len(part), offset))
    return pieces


@pytest.mark.parametrize(
    ("cuts", "offset"),
    [([], PAGE), ([64, 128], PAGE), ([64, 100, 164], PAGE), ([10, 20], PAGE), ([64], 100), ([64, 64], PAGE)],
    ids=["one file", "aligned", "short one between", "unaligned", "odd offset", "empty one between"],
)
def test_rows_are_numpys(tmp_path: Path, cuts: list[int], offset: int) -> None:
    numbers = np.random.default_rng(0)
    values = numbers.standard_normal((200, 2, 32)).astype(np.float16)  # 64 rows fill two pages
    mapped = MappedRows(pieces_of(tmp_path, values, cuts, offset), shape=(2, 32), dtype="float16")
    for rows in (
        numbers.integers(0, 200, 77),
        np.arange(200),
        np.empty(0, np.int64),
        np.array([199, 0, 199]),
    ):
        views = numbers.integers(0, 2, len(rows))
        assert np.array_equal(mapped.take(rows), values[rows])
        assert np.array_equal(mapped.take_views(rows, views), values[rows, views])
    for start, stop in ((0, 200), (0, 64), (63, 65), (101, 164), (199, 200)):
        assert np.array_equal(mapped.span(start, stop), values[start:stop])


def test_aligned_files_become_one_range(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float16)
    mapped = MappedRows(pieces_of(tmp_path, values, [32, 64, 96], PAGE), shape=(64,), dtype="float16")
    assert len(mapped._arrays) == 1
    with pytest.raises(ValueError, match="read-only"):
        mapped.span(0, 3)[0] = 0


def test_results_outlive_the_mapping(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float16)
    mapped = MappedRows(pieces_of(tmp_path, values, [32, 64], PAGE), shape=(64,), dtype="float16")
    taken = mapped.take(np.arange(256))
    del mapped
    assert np.array_equal(taken, values)
