"""Phantom images as samples."""

import pytest

from meddistill.data.config import TableConfig
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.table import read_table


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """Folder of 20 phantom images of ten patients."""
    folder = tmp_path_factory.mktemp("phantom-pairs") / "set"
    generate(folder, PhantomConfig(samples=20, size=40, seed=11))
    return folder


@pytest.fixture(scope="session")
def pairs(phantom):
    """Their pairs of image and caption."""
    config = TableConfig(table="pairs.csv", text="text", patient="patient_id", modality="modality")
    return read_table(config, base=phantom)
