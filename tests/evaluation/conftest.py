"""The small world of coloured images, written once."""

from pathlib import Path

import pytest
from colour_world import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `table.csv` and its images."""
    return write_world(tmp_path_factory.mktemp("world"))
