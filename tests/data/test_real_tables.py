"""The real development tables, read whole."""

import csv
import itertools

import numpy as np
import pytest

from meddistill.data.config import TableConfig
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import group_ids, image_keys, text_keys
from meddistill.data.splits import check_leakage, split_by_patient
from meddistill.data.table import read_table
from meddistill.errors import TableError
from meddistill.imaging import Geometry, normalize_text

PATIENT = {"patient": "patient_id"}
TABLES = {
    "pairs": {"text": "text", "modality": "modality"} | PATIENT,
    "classification": {"modality": "modality"} | PATIENT,
    "diagnosis": {"modality": "modality"} | PATIENT,
    "outcome": PATIENT,
    "vqa": {"text": "question"} | PATIENT,
    "survival_images": PATIENT,
}


def cells(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_table_reads_whole(real_data):
    for name, roles in TABLES.items():
        written = cells(real_data / f"{name}.csv")
        samples = read_table(TableConfig(table=f"{name}.csv", **roles), base=real_data)
        assert len(samples) == len(written) > 50
        assert samples.patients == tuple(row["patient_id"] for row in written)
        for ref, row in zip(samples.refs, written, strict=True):
            assert ref.path == (real_data / row["image"]).resolve()
        if samples.texts is not None:
            column = roles["text"]
            assert list(samples.texts) == [row[column].strip() for row in written]


def test_pairs_have_keys_groups_splits_and_batches(real_data):
    config = TableConfig(table="pairs.csv", on_error="raise", **TABLES["pairs"])
    samples = read_table(config, base=real_data, columns=["split", "dataset"])
    keys = image_keys(samples)
    contents = {ref.path.read_bytes() for ref in samples.refs}
    assert len(set(keys)) == len(contents), "as many keys as contents"
    assert len(set(text_keys(samples))) == len({normalize_text(text) for text in samples.texts})
    assert group_ids(keys).max() == len(contents) - 1

    found = split_by_patient(samples, {"train": 0.8, "test": 0.2}, seed=0)
    owners = [{samples.patients[row] for row in rows} for rows in found.values()]
    assert not owners[0] & owners[1]
    assert abs(len(owners[1]) / len(owners[0] | owners[1]) - 0.2) < 0.03

    every = samples.take(np.linspace(0, len(samples) - 1, 60).astype(int))
    assert len(set(every.columns["dataset"])) > 4
    data = SampleDataset(every, student=Geometry(32, 32, "crop", "bicubic"))
    rasters = data.batch(range(60), [0] * 60).rasters
    assert min(len(raster.unique()) for raster in rasters) > 4, "none of them is blank"


def test_leaks_between_the_given_splits_are_those_that_are_there(real_data):
    named = {}
    for name in ("train", "val", "test"):
        config = TableConfig(table="pairs.csv", where={"split": name}, **TABLES["pairs"])
        named[name] = read_table(config, base=real_data)
    contents = {name: {ref.path.read_bytes() for ref in part.refs} for name, part in named.items()}
    expected = {
        f"`{first}` and `{second}` must not share images; {len(contents[first] & contents[second])} image"
        for first, second in itertools.combinations(named, 2)
        if contents[first] & contents[second]
    }
    assert len(expected) == 1, "one picture stands in two splits, under two patients"
    with pytest.raises(TableError) as caught:
        check_leakage(named)
    (line,) = caught.value.mistakes
    assert line.startswith(expected.pop())
    assert not any(patient in line for part in named.values() for patient in part.patients)
