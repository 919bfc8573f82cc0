"""Tables of text: columns by role, paths, filters, what the content hash knows."""

import shutil

import pytest
from pydantic import ValidationError
from table_files import paint, paint_all, read, write_csv

from meddistill.data.config import TableConfig
from meddistill.data.samples import UNKNOWN_PATIENT
from meddistill.data.table import read_table
from meddistill.errors import TableError
from meddistill.imaging import DecodeOptions, ImageRef

ROLES = {"image": "file", "text": "report", "id": "key", "patient": "person", "modality": "kind"}


@pytest.fixture
def rows(tmp_path):
    paths = paint_all(tmp_path, 4)
    return [
        {
            "key": f"k{i}",
            "file": path,
            "report": f"  caption {i} ",
            "person": f"p{i // 2}",
            "kind": "ct",
            "side": "left" if i % 2 else "right",
            "split": "train" if i < 3 else "test",
            "year": 2020 + i,
        }
        for i, path in enumerate(paths)
    ]


def test_columns_are_found_by_the_names_given(tmp_path, rows):
    samples = read(write_csv(tmp_path / "t.csv", rows), columns=("side", "year"), **ROLES)
    assert len(samples) == 4
    assert samples.refs == tuple(ImageRef(tmp_path.resolve() / row["file"]) for row in rows)
    assert samples.texts == ("caption 0", "caption 1", "caption 2", "caption 3")
    assert samples.ids == ("k0", "k1", "k2", "k3")
    assert samples.patients == ("p0", "p0", "p1", "p1")
    assert samples.modalities == ("ct",) * 4
    assert samples.columns == {
        "side": ("right", "left", "right", "left"),
        "year": ("2020", "2021", "2022", "2023"),
    }
    assert samples.rows == (1, 2, 3, 4)
    assert (samples.skipped, samples.skipped_rows) == ((), ())


def test_optional_columns_have_fallbacks(tmp_path, rows):
    again = [*rows, rows[1]]
    samples = read(write_csv(tmp_path / "t.csv", again), image="file")
    assert samples.texts is None
    assert samples.ids == ("1", "2", "3", "4", "5")
    assert samples.modalities == ("",) * 5
    assert len(set(samples.patients)) == 4, "without patients each image is a patient of its own"
    assert samples.patients[1] == samples.patients[4]
    assert all(patient.startswith(UNKNOWN_PATIENT) for patient in samples.patients)


def test_paths_start_at_the_table_or_at_the_root(tmp_path):
    paint(tmp_path / "tables/here.png", 1)
    paint(tmp_path / "pictures/deep/there.png", 2)
    absolute = tmp_path / "pictures/deep/there.png"
    beside = write_csv(tmp_path / "tables/a.csv", [{"image": "here.png"}])
    rooted = write_csv(
        tmp_path / "tables/b.csv",
        [{"image": "deep/there.png"}, {"image": "deep/../deep/there.png"}, {"image": str(absolute)}],
    )
    assert read(beside).refs == (ImageRef((tmp_path / "tables/here.png").resolve()),)
    config = TableConfig(table="tables/b.csv", root="pictures")
    assert read_table(config, base=tmp_path).refs == (ImageRef(absolute.resolve()),) * 3
    with pytest.raises(TableError, match=r"`root` must be a folder; got .*nowhere"):
        read(rooted, root="nowhere")


def test_selectors_choose_within_a_file(tmp_path):
    paths = paint_all(tmp_path, 2)
    cells = [
        {"image": paths[0], "f": "3", "a": "2", "s": " 17 "},
        {"image": paths[1], "f": "", "a": " ", "s": ""},
    ]
    samples = read(write_csv(tmp_path / "t.csv", cells), frame="f", axis="a", slice="s")
    chosen = [(ref.frame, ref.axis, ref.slice) for ref in samples.refs]
    assert chosen == [(3, 2, 17), (None, None, None)]


@pytest.mark.parametrize(
    ("name", "encoding", "delimiter"),
    [("t.csv", "utf-8-sig", ","), ("t.tsv", "utf-8", "\t"), ("T.TSV", "utf-8-sig", "\t")],
)
def test_byte_order_marks_and_tabs(tmp_path, rows, name, encoding, delimiter):
    plain = read(write_csv(tmp_path / "plain.csv", rows), **ROLES)
    other = read(write_csv(tmp_path / name, rows, encoding=encoding, delimiter=delimiter), **ROLES)
    assert other == plain


def test_quoted_newlines_commas_and_line_ends(tmp_path):
    paths = paint_all(tmp_path, 4)
    body = (
        'image,"text"\r\n'
        f'{paths[0]},"first line\r\nsecond, ""quoted"" line"\r\n'
        "\r\n"
        f"{paths[1]},é plain\r\n"
        f'gone.png,"a\n\nb"\r\n'
        f"{paths[2]},\r\n"
    )
    (tmp_path / "t.csv").write_bytes(body.encode())
    with pytest.raises(TableError) as caught:
        read(tmp_path / "t.csv", text="text")
    assert [line.split(":")[0] for line in caught.value.mistakes] == ["row 3 (line 6)", "row 4 (line 9)"]
    samples = read(tmp_path / "t.csv", text="text", on_error="skip")
    assert samples.texts == ('first line\r\nsecond, "quoted" line', "é plain")


def test_where_takes_a_value_or_several(tmp_path, rows):
    table = write_csv(tmp_path / "t.csv", rows)
    assert read(table, image="file", where={"split": "train"}).rows == (1, 2, 3)
    assert read(table, image="file", where={"year": ["2020", "2023"]}).rows == (1, 4)
    assert read(table, image="file", where={"split": "train", "side": "left"}).rows == (2,)
    kept = read(table, image="file", where={"year": [2021, 2022]}, columns=["year"])
    assert kept.rows == (2, 3), "numbers of YAML are compared as text"
    assert kept.ids == ("2", "3"), "ids are the table's row numbers, whatever was kept"
    assert kept.columns == {"year": ("2021", "2022")}


def test_rows_that_where_leaves_out_are_not_judged(tmp_path, rows):
    rows[3] |= {"file": "gone.png", "key": "k0", "report": ""}
    samples = read(write_csv(tmp_path / "t.csv", rows), **ROLES, where={"split": "train"})
    assert samples.ids == ("k0", "k1", "k2")


def test_where_that_keeps_nothing_is_refused(tmp_path, rows):
    table = write_csv(tmp_path / "t.csv", rows)
    with pytest.raises(TableError) as caught:
        read(table, image="file", where={"split": ["trian", "test"], "side": [], "year": "9"})
    assert caught.value.mistakes == (
        "`where.split` must be values that occur; got 'trian'. The column holds 'test', 'train'.",
        "`where.side` must be values that occur; got none. The column holds 'left', 'right'.",
        "`where.year` must be values that occur; got '9'. The column holds '2020', '2021', '2022', '2023'.",
    )
    with pytest.raises(TableError, match=r"`where` must keep some rows; no row has all its values"):
        read(table, image="file", where={"split": "test", "year": "2020"})


def test_values_of_a_long_column_are_cut(tmp_path):
    paths = paint_all(tmp_path, 11)
    table = write_csv(tmp_path / "t.csv", [{"image": path, "n": f"{i:02}"} for i, path in enumerate(paths)])
    with pytest.raises(TableError, match=r"The column holds '00', .* '07' and 3 more\."):
        read(table, where={"n": "99"})


def test_unknown_keys_of_a_table_are_refused():
    with pytest.raises(ValidationError, match="imagee"):
        TableConfig(table="t.csv", imagee="file")
    with pytest.raises(ValidationError, match="on_error"):
        TableConfig(table="t.csv", on_error="ignore")


def test_hash_knows_what_was_read_and_not_where_it_lies(tmp_path, rows):
    table = write_csv(tmp_path / "one/t.csv", rows)
    shutil.copytree(tmp_path / "images", tmp_path / "one/images")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    known = read(table, **ROLES).table_hash
    assert read(tmp_path / "two/t.csv", **ROLES).table_hash == known

    unread = [row | {"side": "middle"} for row in rows]
    assert read(write_csv(tmp_path / "one/u.csv", unread), **ROLES).table_hash == known
    assert read(table, **ROLES, columns=["side"]).table_hash == known  # of whoever reads it
    hashes = [known]
    for column, value in [
        ("report", "x"),
        ("key", "x"),
        ("person", "x"),
        ("kind", "x"),
        ("file", "images/2.png"),
    ]:
        changed = [rows[0] | {column: value}, *rows[1:]]
        hashes.append(read(write_csv(tmp_path / "one/v.csv", changed), **ROLES).table_hash)
    hashes.append(read(write_csv(tmp_path / "one/v.csv", rows[::-1]), **ROLES).table_hash)
    hashes.append(read(table, **ROLES, decode=DecodeOptions(window=(40, 400))).table_hash)
    hashes.append(read(table, **ROLES, where={"split": "train"}).table_hash)
    assert len(set(hashes)) == len(hashes)


def test_taking_rows_keeps_columns_together(tmp_path, rows):
    samples = read(write_csv(tmp_path / "t.csv", rows), columns=["side"], **ROLES)
    taken = samples.take([3, 1])
    assert taken.ids == ("k3", "k1")
    assert taken.refs == (samples.refs[3], samples.refs[1])
    assert taken.texts == ("caption 3", "caption 1")
    assert (taken.patients, taken.columns["side"]) == (("p1", "p0"), ("left", "left"))
    assert taken.rows == (4, 2)
    assert taken.table_hash not in {samples.table_hash, samples.take([1, 3]).table_hash}
    assert samples.take(range(4)) is samples


def test_an_image_may_have_a_name_that_is_no_utf8(tmp_path, rows):
    """Names of old archives are bytes: the table has those of the disk, other cells must be UTF-8."""
    (tmp_path / rows[0]["file"]).rename(tmp_path / "images/th\udcf8rax.png")
    rows[0]["file"] = "images/th\udcf8rax.png"
    samples = read(write_csv(tmp_path / "t.csv", rows), **ROLES)
    assert samples.refs[0].path.name == "th\udcf8rax.png"
    rows[1]["report"] = "l\udce9sion"
    with pytest.raises(TableError, match=r"row 2 .*`report` must be UTF-8; got byte 0xE9"):
        read(write_csv(tmp_path / "t.csv", rows), **ROLES)
