"""Stores that name images by the rules of an earlier version."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from meddistill.standalone import train_overlap
from planted_store import Planted, planted_store


@pytest.mark.parametrize("later", [0, 1])
def test_what_such_a_store_cannot_tell_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int
) -> None:
    planted_store(tmp_path / "store", {"eye": Planted(np.ones((3, 4), np.float32))}, [], ["", "", ""])
    monkeypatch.setattr(train_overlap, "RULES_VERSION", train_overlap.RULES_VERSION + later)
    nothing: Any = SimpleNamespace(tasks=())
    found = train_overlap.find_train_overlap({"mine": tmp_path / "store"}, nothing, nothing)
    assert found.refused == ()
    assert ["`mine`" in line for line in found.reported] == [True] * later
