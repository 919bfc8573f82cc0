"""Parquet and `datasets` folders: the same samples as the CSV; embedded images; what is refused."""

import io
import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from table_files import paint_all, read, write_csv

from meddistill.errors import TableError
from meddistill.imaging import decode

ROLES = {"text": "text", "id": "id", "patient": "patient", "modality": "modality"}


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


@pytest.fixture
def cells(tmp_path):
    paths = paint_all(tmp_path, 5)
    return {
        "id": [100, 101, 102, 103, 104],
        "image": paths,
        "text": ["plain", "Ödem, zwei\nZeilen", 'a "b"', "d", "e"],
        "patient": ["p0", "p0", "p1", "p1", "p2"],
        "modality": ["ct", "ct", None, "mri", "mri"],
        "split": ["train", "train", "train", "test", "test"],
    }


def csv_of(tmp_path, cells):
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    return write_csv(tmp_path / "t.csv", rows)


def refuses(path, **named):
    with pytest.raises(TableError) as caught:
        read(path, **named)
    (line,) = caught.value.mistakes
    return line


def test_every_format_gives_the_same_samples(tmp_path, cells):
    expected = read(csv_of(tmp_path, cells), **ROLES, where={"split": ["train", "test"]})
    assert expected.ids == ("100", "101", "102", "103", "104")
    assert expected.modalities == ("ct", "ct", "", "mri", "mri")
    pq.write_table(pa.table(cells), tmp_path / "arrow.parquet")
    pd.DataFrame(cells).astype({"modality": "category"}).to_parquet(tmp_path / "pandas.parquet")
    typed = [(name, pa.large_string()) for name in ("image", "text", "patient", "modality", "split")]
    large = pa.table(cells, schema=pa.schema([("id", pa.float64()), *typed]))
    pq.write_table(large, tmp_path / "large", row_group_size=2)
    datasets.Dataset.from_dict(cells).save_to_disk(tmp_path / "folder", num_shards=2)
    for name in ("arrow.parquet", "pandas.parquet", "large", "folder"):
        root = "." if name == "folder" else None
        samples = read(tmp_path / name, **ROLES, root=root, where={"split": ["train", "test"]})
        assert samples == expected, name


def test_rows_of_a_parquet_have_no_lines(tmp_path, cells):
    pq.write_table(pa.table(cells | {"image": ["gone.png"] * 5}), tmp_path / "t.parquet")
    with pytest.raises(TableError) as caught:
        read(tmp_path / "t.parquet")
    assert [line.split(":")[0] for line in caught.value.mistakes] == [f"row {i}" for i in range(1, 6)]


def test_bad_bytes_in_a_parquet_are_named_by_row(tmp_path, cells):
    texts = pa.array([b"fine", b"l\xe9sion", b"\xff", None, b"fine"], pa.binary())
    plain = pa.table(cells).set_column(2, "text", texts.view(pa.string()))
    pq.write_table(plain, tmp_path / "t.parquet")
    with pytest.raises(TableError) as caught:
        read(tmp_path / "t.parquet", text="text")
    assert caught.value.mistakes == (
        "row 2: `text` must be UTF-8; got byte 0xE9. Save the table as UTF-8.",
        "row 3: `text` must be UTF-8; got byte 0xFF. Save the table as UTF-8.",
        "row 4: `text` must hold a caption; got an empty one.",
    )


def test_labels_are_read_by_their_names(tmp_path, cells):
    names = ["benign", "malignant"]
    dataset = datasets.Dataset.from_dict({"image": cells["image"], "label": [0, 1, 1, -1, 0]})
    dataset = dataset.cast_column("label", datasets.ClassLabel(names=names))
    dataset.save_to_disk(tmp_path / "folder")
    samples = read(tmp_path / "folder", root=".", columns=["label"])
    assert samples.columns["label"] == ("benign", "malignant", "malignant", "", "benign")
    kept = read(tmp_path / "folder", root=".", columns=["label"], where={"label": "malignant"})
    assert kept.rows == (2, 3)
    dataset.to_parquet(tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", columns=["label"]).columns == samples.columns


def test_numbers_are_text_as_a_csv_would_have_them(tmp_path, cells):
    values = {
        "whole": pa.array([1, None, 3, 4, 5], pa.int64()),
        "widened": pa.array([7.0, None, float("nan"), 0.5, 1e20], pa.float64()),
        "flag": pa.array([True, False, True, None, False]),
    }
    pq.write_table(pa.table({"image": cells["image"], **values}), tmp_path / "t.parquet")
    samples = read(tmp_path / "t.parquet", columns=list(values))
    assert samples.columns["whole"] == ("1", "", "3", "4", "5")
    assert samples.columns["widened"] == ("7", "", "", "0.5", "100000000000000000000")
    assert samples.columns["flag"] == ("True", "False", "True", "", "False")


def content(path):
    return Path(path).read_bytes()


def embedded(tmp_path, cells, **options):
    """A folder of several arrow files whose images stand in them as bytes."""
    dataset = datasets.Dataset.from_dict(
        {"image": [str(tmp_path / path) for path in cells["image"]], "text": cells["text"]}
    )
    dataset = dataset.cast_column("image", datasets.Image(decode=False))
    dataset = dataset.map(lambda row: {"image": row["image"] | {"bytes": content(row["image"]["path"])}})
    dataset.save_to_disk(tmp_path / "folder", **options)
    return tmp_path / "folder"


def test_embedded_images_are_written_out_once(tmp_path, cells):
    folder = embedded(tmp_path, cells, num_shards=3)
    assert len(list(folder.glob("*.arrow"))) == 3
    plain = read(csv_of(tmp_path, cells), text="text")
    shutil.move(tmp_path / "images", tmp_path / "moved")
    samples = read(folder, text="text", unpack="unpacked")
    assert samples.texts == plain.texts
    for ref, path in zip(samples.refs, cells["image"], strict=True):
        assert ref.path.parent == (tmp_path / "unpacked").resolve()
        original = tmp_path / path.replace("images", "moved")
        assert ref.path.read_bytes() == original.read_bytes()
        assert ref.path.suffix == ".png"
        assert np.array_equal(decode(ref), np.asarray(Image.open(original)))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "unpacked").iterdir()}
    assert len(stamps) == 5
    assert read(folder, text="text", unpack="unpacked") == samples
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "unpacked").iterdir()} == stamps


def test_a_damaged_unpacked_file_is_written_again(tmp_path, cells):
    folder = embedded(tmp_path, cells)
    (path,) = {ref.path for ref in read(folder, unpack="unpacked").take([2]).refs}
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    read(folder, unpack="unpacked")
    assert path.read_bytes() == whole


def test_embedded_images_of_other_rows_are_not_written(tmp_path, cells):
    folder = embedded(tmp_path, cells)
    samples = read(folder, unpack="unpacked", where={"text": "d"})
    assert len(list((tmp_path / "unpacked").iterdir())) == len(samples) == 1


def test_embedded_images_need_a_folder(tmp_path, cells):
    line = refuses(embedded(tmp_path, cells))
    assert line.startswith("`unpack` must name a folder, for `image` holds 5 images themselves; got none.")


def test_images_of_the_feature_keep_their_pixels(tmp_path, cells):
    pictures = [Image.open(tmp_path / path) for path in cells["image"]]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"image": [*pictures[:4], None], "text": cells["text"]}, features)
    dataset.save_to_disk(tmp_path / "folder")
    assert refuses(tmp_path / "folder", unpack="out") == "row 5: `image` must name a file; got a blank."
    samples = read(tmp_path / "folder", unpack="out", on_error="skip")
    for ref, picture in zip(samples.refs, pictures, strict=False):
        assert np.array_equal(decode(ref), np.asarray(picture))


def test_a_column_of_bytes_is_a_column_of_images(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((3, 5), 7, np.uint8)).save(file, "PNG")
    pq.write_table(pa.table({"image": [file.getvalue()] * 2}), tmp_path / "t.parquet")
    samples = read(tmp_path / "t.parquet", unpack="out")
    assert samples.refs[0] == samples.refs[1]
    assert np.array_equal(decode(samples.refs[0]), np.full((3, 5, 3), 7))


def test_selected_rows_are_the_ones_saved(tmp_path, cells):
    dataset = datasets.Dataset.from_dict(cells).select([4, 0, 2])
    dataset.save_to_disk(tmp_path / "folder")
    assert read(tmp_path / "folder", root=".", id="id").ids == ("104", "100", "102")


def test_a_folder_of_splits_is_refused_with_their_names(tmp_path, cells):
    dataset = datasets.Dataset.from_dict(cells)
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "both")
    line = refuses(tmp_path / "both")
    assert line == (
        "`table` must be one split; got a folder of splits. "
        f"Choose one of `{tmp_path / 'both/train'}`, `{tmp_path / 'both/test'}`."
    )
    assert len(read(tmp_path / "both/test", root="..")) == 5


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("dataset_dict.json", "{}", "`dataset_dict.json` must list `splits`"),
        ("dataset_dict.json", "[]", "`dataset_dict.json` must list `splits`"),
        ("state.json", "{", "`state.json` must be JSON; got text that is no JSON"),
        ("state.json", "{}", "`state.json` must list `_data_files`"),
        ("state.json", "[]", "`state.json` must list `_data_files`"),
        ("state.json", '{"_data_files": []}', "`table` must have rows"),
        ("state.json", '{"_data_files": ["x.arrow"]}', "must list files of its own folder"),
        ("state.json", '{"_data_files": [{"filename": "../x.arrow"}]}', "must list files of its own folder"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', "(gone.arrow)"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, cells, name, content, says):
    datasets.Dataset.from_dict(cells).save_to_disk(tmp_path / "folder")
    (tmp_path / "folder" / name).write_text(content)
    assert says in refuses(tmp_path / "folder", root=".")


def test_a_cut_arrow_file_is_refused(tmp_path, cells):
    datasets.Dataset.from_dict(cells).save_to_disk(tmp_path / "folder")
    (file,) = (tmp_path / "folder").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:300])
    assert "must be an Arrow stream that can be read; got" in refuses(tmp_path / "folder", root=".")


def test_rows_picked_by_an_old_version_are_refused(tmp_path, cells):
    datasets.Dataset.from_dict(cells).save_to_disk(tmp_path / "folder")
    state = tmp_path / "folder/state.json"
    picked = json.loads(state.read_text()) | {"_indices_data_files": [{"filename": "indices.arrow"}]}
    state.write_text(json.dumps(picked))
    assert "`state.json` must list no `_indices_data_files`" in refuses(tmp_path / "folder", root=".")


def test_lists_in_cells_and_empty_tables_are_refused(tmp_path, cells):
    pq.write_table(pa.table({"image": [["a.png", "b.png"]]}), tmp_path / "lists.parquet")
    assert "`image` must hold one plain value a row" in refuses(tmp_path / "lists.parquet")
    datasets.Dataset.from_dict({"image": []}).save_to_disk(tmp_path / "empty")
    assert refuses(tmp_path / "empty").startswith("`table` must have rows")
    pq.write_table(pa.table({"image": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    assert refuses(tmp_path / "empty.parquet").startswith("`table` must have rows")
    pq.write_table(pa.table(cells), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="Did you mean `patient`"):
        read(tmp_path / "t.parquet", patient="patien")
