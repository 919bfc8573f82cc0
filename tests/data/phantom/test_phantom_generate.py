"""The folder on disk: tables, images, masks; byte identity, resuming, refusals."""

import csv
import hashlib
import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from meddistill.data.phantom.cohort import draw_sample
from meddistill.data.phantom.config import MODALITIES, PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.phantom.png import encode_png
from meddistill.data.phantom.prompts import prompts
from meddistill.errors import ConfigError

CONFIG = PhantomConfig(samples=135, seed=7, images_per_patient=2)
COLUMNS = {
    "pairs": ["image", "text", "modality", "finding", "patient_id", "split", "sex", "age_band"],
    "classification": ["image", "task", "label", "modality", "patient_id", "split", "sex", "age_band"],
    "segmentation": ["image", "mask", "structure", "label", "modality", "patient_id", "split"],
    "vqa": ["image", "question", "answer", "answer_type", "question_type", "patient_id", "split"],
    "survival": ["patient_id", "time_months", "event", "age", "sex", "split"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("phantom") / "set", CONFIG)


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_tables_have_their_columns_and_rows(made):
    for name, columns in COLUMNS.items():
        rows = read(getattr(made, name))
        assert list(rows[0]) == columns
    assert len(read(made.pairs)) == 135
    assert len(read(made.classification)) == 270
    assert len(read(made.vqa)) == 540
    assert len(read(made.survival)) == 68


def test_labels_are_those_of_the_prompts(made):
    for row in read(made.classification):
        assert row["label"] in prompts(row["task"])


def test_images_and_masks_are_those_drawn(made):
    folder = made.pairs.parent
    for sample in range(0, 135, 10):
        _, drawing = draw_sample(CONFIG, sample)
        assert (
            np.asarray(Image.open(folder / f"images/{sample:06d}.png").convert("RGB")) == drawing.image
        ).all()
        assert (np.asarray(Image.open(folder / f"masks/{sample:06d}.png")) == drawing.mask).all()


def test_every_structure_of_the_table_is_in_its_mask(made):
    folder = made.pairs.parent
    rows = read(made.segmentation)
    assert {row["modality"] for row in rows} == set(MODALITIES)
    for row in rows:
        mask = np.asarray(Image.open(folder / row["mask"]))
        assert (mask == int(row["label"])).any(), row


def test_a_patient_is_in_one_split_in_all_tables(made):
    splits: dict[str, set[str]] = {}
    for name in COLUMNS:
        for row in read(getattr(made, name)):
            splits.setdefault(row["patient_id"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "val", "test"}


def test_the_same_configuration_gives_the_same_bytes(made, tmp_path):
    again = generate(tmp_path / "again", CONFIG)
    assert digest(again.pairs.parent) == digest(made.pairs.parent)


def test_a_larger_set_continues_a_smaller_one(made, tmp_path):
    few = generate(tmp_path / "few", CONFIG.model_copy(update={"samples": 20}))
    small, large = digest(few.pairs.parent), digest(made.pairs.parent)
    images = [name for name in small if name.endswith(".png")]
    assert len(images) == 40
    assert all(small[name] == large[name] for name in images)
    assert read(few.pairs) == read(made.pairs)[:20]


def test_a_finished_folder_is_left_alone_and_progress_is_told(tmp_path):
    config = PhantomConfig(samples=3, seed=0)
    told = []
    tables = generate(tmp_path / "set", config, progress=lambda *counts: told.append(counts))
    assert told == [(1, 3), (2, 3), (3, 3)]
    before = tables.pairs.stat().st_mtime_ns
    assert generate(tmp_path / "set", config, progress=lambda *counts: told.append(counts)) == tables
    assert len(told) == 3
    assert tables.pairs.stat().st_mtime_ns == before


def test_an_interrupted_run_leaves_no_folder_and_can_be_repeated(tmp_path):
    config = PhantomConfig(samples=4, seed=0)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", config, progress=stop)
    assert not (tmp_path / "set").exists()
    tables = generate(tmp_path / "set", config)
    assert len(read(tables.pairs)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match="`folder` must be absent, empty or a phantom"):
        generate(tmp_path / "mine", PhantomConfig(samples=2))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"
    generate(tmp_path / "set", PhantomConfig(samples=2))
    with pytest.raises(ConfigError, match="must hold the phantom of this configuration"):
        generate(tmp_path / "set", PhantomConfig(samples=3))


def test_bad_configurations_are_refused():
    with pytest.raises(ValidationError, match="`modalities` must name one or more modalities, each once"):
        PhantomConfig(samples=1, modalities=("ct", "ct"))
    for bad in ({"samples": 0}, {"samples": 1, "size": 8}, {"samples": 1, "sead": 3}):
        with pytest.raises(ValidationError):
            PhantomConfig(**bad)


@pytest.mark.parametrize("shape", [(3, 5), (4, 6, 3), (1, 1)])
def test_png_is_lossless(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(encode_png(pixels)))) == pixels).all()
