"""The folder that the guides speak of, with one finished run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from guide_lab import prepare

from meddistill.cli import main


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """`mine.yaml` is run to its end there; the guides go on from that."""
    folder = tmp_path_factory.mktemp("guides") / "lab"
    prepare(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "mine.yaml", "--quiet"]) == 0
    yield folder
    torch.set_num_threads(threads)
