"""Cells of a table as groups: bands, blanks, columns that make no groups."""

from typing import Any

import numpy as np
import pytest

from meddistill.data.samples import Samples
from meddistill.errors import TableError
from meddistill.evaluation.base.grouping import (
    MOST_LABELS,
    band_labels,
    check_groups,
    group_columns,
    in_order,
)
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task_config import GroupConfig
from meddistill.imaging import ImageRef


def _part(name: str, cells: tuple[str, ...], **more: Any) -> EvalSplit:
    refs = tuple(ImageRef(path=f"{index}.png") for index in range(len(cells)))
    return EvalSplit(
        table="t",
        samples=Samples(refs=refs, columns={name: cells}, **more),
        keys=tuple(map(str, range(len(cells)))),
        patients=np.arange(len(cells)),
    )


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("17.9", "below 18"),
        ("-3", "below 18"),
        ("18", "18 to <65"),
        (" 64.999 ", "18 to <65"),
        ("65", "65 and above"),
        ("1e3", "65 and above"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_bands_hold_their_lower_bound(cell: str, label: str) -> None:
    config = {"age": GroupConfig(bands=(18, 65))}
    assert group_columns(_part("age", (cell,)), config, [0]) == {"age": (label,)}


@pytest.mark.parametrize("cell", ["old", "nan", "inf", "045Y", "12,5"])
def test_cells_that_no_band_holds_are_named_with_their_rows(cell: str) -> None:
    part = _part("age", ("3", cell, "4"))
    with pytest.raises(TableError, match=r"`age` must hold numbers.*row 2"):
        check_groups(part, {"age": GroupConfig(bands=(18,))})
    check_groups(part, {"age": GroupConfig()})


def test_positions_and_rows_that_are_not_there() -> None:
    part = _part("sex", ("f", "m", ""))
    assert group_columns(part, {"sex": GroupConfig()}, [2, 0, -1, 1, 1]) == {"sex": ("", "f", "", "m", "m")}


def test_the_modality_is_that_of_the_samples_unless_it_is_a_column() -> None:
    config = {"modality": GroupConfig()}
    assert group_columns(_part("x", ("a",), modalities=("ct",)), config, [0]) == {"modality": ("ct",)}
    assert group_columns(_part("modality", ("mr",)), config, [0]) == {"modality": ("mr",)}


def test_order_of_labels() -> None:
    assert in_order(["", "b", "a", "b"], GroupConfig()) == ["a", "b", ""]
    bands = GroupConfig(bands=(5, 10, 100))
    assert band_labels(bands.bands) == ["below 5", "5 to <10", "10 to <100", "100 and above"]
    assert in_order(["100 and above", "", "5 to <10"], bands) == ["5 to <10", "100 and above", ""]
    assert band_labels([0.5]) == ["below 0.5", "0.5 and above"]


def test_columns_that_tell_of_single_patients_are_refused() -> None:
    names = tuple(f"name {index}" for index in range(MOST_LABELS + 1))
    with pytest.raises(TableError, match=f"at most {MOST_LABELS} values.*got {MOST_LABELS + 1}"):
        check_groups(_part("site", names), {"site": GroupConfig()})
    with pytest.raises(TableError, match="single patients"):
        check_groups(_part("who", ("a", "b"), patients=("a", "b")), {"who": GroupConfig()})


def test_a_second_name_of_the_patients_is_refused() -> None:
    patients = tuple(f"p{index // 2}" for index in range(12))
    cells = tuple(f"record {index // 2}" for index in range(12))
    with pytest.raises(TableError, match="single patients"):
        check_groups(_part("record", cells, patients=patients), {"record": GroupConfig()})
    shared = (*cells[:10], "record 0", "record 0")
    check_groups(_part("record", shared, patients=patients), {"record": GroupConfig()})
    check_groups(_part("site", cells[:10], patients=patients[:10]), {"site": GroupConfig()})
