"""Label maps as tables name them, and what is wrong with them."""

import csv
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from disc_world import FIELDS, suite, task, write_discs
from PIL import Image

from meddistill.data.config import TableConfig
from meddistill.data.table import read_table
from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.segmentation.task import SegmentationProbe

NAMES = SampleNames(None, examples=True)


def _change(folder: Path, column: str, change: Callable[[dict[str, str]], str]) -> None:
    path = folder / "table.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows([{**row, column: change(row)} for row in rows])


def _task(folder: Path, **more: object) -> SegmentationProbe:
    config = suite(task(**more))
    built = build_task(config.tasks[0], SuiteTables(config, base=folder).parts(config.tasks[0]), NAMES)
    assert isinstance(built, SegmentationProbe)
    return built


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_discs(tmp_path, patients=8)


def test_the_foreground_is_what_was_asked_for(world: Path) -> None:
    whole, bright, dim = (_task(world, foreground=each).masks["train"] for each in (None, [2], [1]))
    both = _task(world, foreground=[2, 1]).masks["train"]
    assert len(whole) == 8
    for place in range(8):
        np.testing.assert_array_equal(whole[place], bright[place] | dim[place])
        np.testing.assert_array_equal(both[place], whole[place])
        assert whole.pixels[place] == whole[place].sum()
        assert whole[place].shape == whole.shapes[place] in ((36, 52), (48, 40))


def test_spacings(world: Path) -> None:
    assert set(_task(world).masks["test"].spacings) == {None}
    assert set(_task(world, spacing=[0.5, 0.7]).masks["test"].spacings) == {(0.5, 0.7)}
    assert set(_task(world, spacing_column="spacing").masks["test"].spacings) == {(0.5, 2)}
    _change(world, "spacing", lambda _: " 0.25 ")
    assert set(_task(world, spacing_column="spacing").masks["test"].spacings) == {(0.25, 0.25)}


@pytest.mark.parametrize("cell", ["", "x", "1|2|3", "0", "-1", "nan", "1|inf"])
def test_spacings_that_are_none(world: Path, cell: str) -> None:
    _change(world, "spacing", lambda row: cell if row["image"] == "secret-1-0.png" else row["spacing"])
    with pytest.raises(TableError, match=r"`spacing` must hold millimetres.*\(row 3\)"):
        _ = _task(world, spacing_column="spacing").masks


def test_every_mistake_of_masks_is_told_with_its_row(world: Path) -> None:
    Image.fromarray(np.zeros((5, 6), dtype=np.uint8)).save(world / "secret-0-0_mask.png")
    Image.new("RGB", (40, 48)).save(world / "secret-0-1_mask.png")
    config = suite()
    with pytest.raises(ConfigError) as caught:
        check_tasks(config, SuiteTables(config, base=world))
    text = str(caught.value)
    assert "row 1: `mask` must have the size of its image, 36 x 52; got 5 x 6." in text
    assert "row 2: `" in text
    assert "one channel; got RGB" in text


def test_absent_and_blank_masks_are_refused_when_the_table_is_read(world: Path) -> None:
    _change(world, "mask", lambda row: "" if row["image"] == "secret-0-0.png" else "../" + row["mask"])
    with pytest.raises(TableError) as caught:
        _task(world)
    lines = caught.value.mistakes
    assert any("row 1" in line and "`mask` must name a file; got a blank" in line for line in lines)
    assert any("must stay inside `root`" in line for line in lines)


def test_a_column_that_is_not_there_is_named(world: Path) -> None:
    with pytest.raises(TableError, match="`outline` must name a column"):
        _task(world, mask="outline")


def test_a_training_table_without_the_structure_is_refused(world: Path) -> None:
    built = _task(world, foreground=[7])
    with pytest.raises(TableError, match=r"labels in \[7\] in some row to learn from; got none in 8 rows"):
        built.check()
    for path in world.glob("*_mask.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    with pytest.raises(TableError, match="labels other than 0"):
        _task(world, foreground=None).check()


def test_other_masks_are_another_task_and_other_cells_are_not(world: Path) -> None:
    first, tables = _task(world).digest(), SuiteTables(suite(), base=world).digests()
    _change(world, "spacing", lambda _: "9")
    assert _task(world).digest() == first
    path = world / "secret-1-1_mask.png"
    labels = np.asarray(Image.open(path)).copy()
    labels[0, 0] = 2
    Image.fromarray(labels).save(path)
    assert _task(world).digest() != first
    again = SuiteTables(suite(), base=world).digests()
    assert {name for name in again if again[name] != tables[name]} == {"test"}


def test_samples_carry_their_masks_wherever_they_go(world: Path) -> None:
    samples = read_table(TableConfig(table="table.csv"), base=world, images=["mask"])
    taken = samples.take([5, 2])
    assert [ref.path.name for ref in taken.images["mask"]] == ["secret-2-1_mask.png", "secret-1-0_mask.png"]
    assert samples.table_hash != read_table(TableConfig(table="table.csv"), base=world).table_hash


def test_masks_in_tar_shards(tmp_path: Path) -> None:
    labels = np.array([[0, 2], [1, 255]], dtype=np.uint8)
    with tarfile.open(tmp_path / "000.tar", "w") as tar:
        for name, picture in (("a.jpg", labels), ("a.mask.png", labels), ("b.jpg", labels)):
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, format="JPEG" if name.endswith("jpg") else "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(entry, buffer)
    config = TableConfig(table="000.tar", image="jpg", on_error="skip")
    samples = read_table(config, base=tmp_path, images=["mask.png"])
    assert [ref.path.name for ref in samples.images["mask.png"]] == ["a.mask.png"]
    assert len(samples.skipped) == 1
    assert "must be an image of the sample; got none" in samples.skipped[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"foreground": [0]}, "greater than or equal to 1"),
        ({"foreground": [1, 1]}, "must differ"),
        ({"spacing": [1, 1], "spacing_column": "spacing"}, "must be given once"),
        ({"spacing": [1, 0]}, "greater than 0"),
        ({"decoder": "huge"}, "linear"),
        ({"validation": "nowhere"}, "must be one of"),
    ],
)
def test_configs_that_make_no_sense(more: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        suite(task(**more))


def test_the_config_names_its_tables_columns_and_images() -> None:
    config = suite(task(spacing_column="spacing", where={"split": "x"}, mask="outline")).tasks[0]
    assert config.tables() == {"train": "train", "validation": "val", "test": "test"}
    assert config.columns() == {"spacing", "split"}
    assert config.images() == {"outline"}
    assert suite(task(validation=None)).tasks[0].tables() == {"train": "train", "test": "test"}
