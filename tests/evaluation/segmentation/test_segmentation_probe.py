"""The segmentation probe from images with label maps to results."""

from pathlib import Path

import pytest
from disc_world import PatchModel, suite, task, write_discs

from meddistill.evaluation.evaluate import evaluate
from meddistill.evaluation.results import Results
from meddistill.progress import SilentProgress


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def results(discs: Path, folder: Path) -> Results:
    models = [
        PatchModel(),
        PatchModel("sharp", "teacher", patches=12),
        PatchModel("blurred", "teacher", noise=2.0),
        PatchModel("whole images only", "baseline", gives=False),
    ]
    config = suite(task(), task(name="light", decoder="light", seeds=1))
    return evaluate(models, config, base=discs, folder=folder, progress=SilentProgress())


def test_end_to_end(results: Results) -> None:
    assert results.main("student", "discs").value > 0.7
