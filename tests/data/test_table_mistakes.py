"""Bad tables: every mistake at once, with its row; `on_error: skip` counts what it drops."""

import io
import zipfile

import pytest
from table_files import paint, paint_all, read, write_csv

from meddistill.errors import TableError

ROLES = {"text": "text", "id": "id", "patient": "patient", "frame": "frame"}


def good(path, i):
    return {"id": f"id-{i}", "image": path, "text": f"caption {i}", "patient": f"p{i}", "frame": ""}


@pytest.fixture
def rows(tmp_path):
    return [good(path, i) for i, path in enumerate(paint_all(tmp_path / "in", 3))]


def mistakes(path, **named):
    with pytest.raises(TableError) as caught:
        read(path, **named)
    return caught.value.mistakes


def test_missing_columns_are_all_named_with_the_nearest(tmp_path, rows):
    table = write_csv(tmp_path / "in/t.csv", rows)
    wrong = {"image": "imagee", "text": "caption", "patient": "patients", "where": {"spit": "a"}}
    has = "`id`, `image`, `text`, `patient`, `frame`"
    with pytest.raises(TableError) as caught:
        read(table, **wrong, columns=["ID"])
    assert caught.value.mistakes == (
        f"`image` must name a column; got `imagee`, the table has {has}. Did you mean `image`?",
        f"`text` must name a column; got `caption`, the table has {has}. Name one of them.",
        f"`patient` must name a column; got `patients`, the table has {has}. Did you mean `patient`?",
        f"`where.spit` must name a column; got `spit`, the table has {has}. Name one of them.",
        f"`ID` must be a column, for a stage, a task, its `where` or `groups` names it; the table has {has}. "
        "Name one of them.",
    )


@pytest.fixture
def bad(tmp_path, rows):
    """A table in which rows 1, 6 and 13 are good."""
    inside, outside = tmp_path / "in", paint(tmp_path / "out/secret.png", 9)
    (inside / "images/link.png").symlink_to(outside)
    (inside / "elsewhere").symlink_to(outside.parent, target_is_directory=True)
    first, second, third = rows
    path = first["image"]
    return [
        first,
        good("images/gone.png", 10),
        good("../out/secret.png", 11),
        good(str(outside), 12),
        good("images/link.png", 13),
        second,
        good("elsewhere/secret.png", 14),
        good(path, 15) | {"text": " \t\n "},
        good(path, 16) | {"text": "l\udce9sion"},
        good(path, 0),
        good(path, 17) | {"patient": " "},
        good(path, 18) | {"frame": "-1"},
        third,
        good("images", 19) | {"text": "", "id": "", "frame": "1.0"},
        good("", 20) | {"frame": "1234567890"},
        good("long" * 70, 21),
    ]


def test_all_mistakes_of_a_table_come_at_once_with_their_rows(tmp_path, bad):
    outside = str(tmp_path / "out/secret.png")
    leaves = "`image` must stay inside `root`; got {}. Set `root` to a folder that holds all images."
    assert list(mistakes(write_csv(tmp_path / "in/t.csv", bad), **ROLES)) == [
        "row 2 (line 3): `image` must name a file; got 'images/gone.png', which does not exist.",
        "row 3 (line 4): " + leaves.format("'../out/secret.png'"),
        "row 4 (line 5): "
        + leaves.format(repr(outside) if len(outside) < 79 else repr(outside)[:77] + "..."),
        "row 5 (line 6): " + leaves.format("'images/link.png', a link that leads outside of it"),
        "row 7 (line 8): " + leaves.format("'elsewhere/secret.png', a link that leads outside of it"),
        "row 8 (line 9): `text` must hold a caption; got an empty one.",
        "row 9 (line 11): `text` must be UTF-8; got byte 0xE9. Save the table as UTF-8.",
        "row 10 (line 12): `id` must be unique; got 'id-0', which is also the id of row 1 (line 2).",
        "row 11 (line 13): `patient` must name a patient; got a blank, with which splits could leak.",
        "row 12 (line 14): `frame` must be a whole number from 0; got '-1'.",
        "row 14 (line 16): `text` must hold a caption; got an empty one.",
        "row 14 (line 16): `id` must hold an id; got a blank.",
        "row 14 (line 16): `frame` must be a whole number from 0; got '1.0'.",
        "row 14 (line 16): `image` must name a file; got 'images', a folder.",
        "row 15 (line 17): `frame` must be a whole number from 0; got '1234567890'.",
        "row 15 (line 17): `image` must name a file; got a blank.",
        f"row 16 (line 18): `image` must name a file; got '{'long' * 19}... (OSError).",
    ]


def test_skip_drops_bad_rows_and_counts_them(tmp_path, bad):
    table = write_csv(tmp_path / "in/t.csv", bad)
    samples = read(table, **ROLES, on_error="skip")
    assert samples.ids == ("id-0", "id-1", "id-2")
    assert samples.rows == (1, 6, 13)
    assert samples.skipped == mistakes(table, **ROLES)
    assert samples.skipped_rows == (2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 16)
    good_rows = write_csv(tmp_path / "in/good.csv", [bad[0], bad[5], bad[12]])
    assert read(good_rows, **ROLES).table_hash == samples.table_hash, "what was dropped left no trace"


def test_skip_with_no_row_left_is_refused(tmp_path, rows):
    table = write_csv(tmp_path / "in/t.csv", [rows[0] | {"image": "gone.png"}])
    assert len(mistakes(table, **ROLES, on_error="skip")) == 1


def test_long_lists_are_cut_with_a_count(tmp_path):
    table = write_csv(tmp_path / "t.csv", [{"image": f"{i}.png"} for i in range(1025)])
    with pytest.raises(TableError) as caught:
        read(table)
    assert len(caught.value.mistakes) == 1025
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[0].endswith("t.csv: 1025 mistakes")
    assert lines[-1].strip() == "and 1,005 more"


def test_records_that_are_too_long_are_named(tmp_path, rows):
    path = rows[0]["image"]
    body = f"image,text,split\n{path},a,train\n{path},b, with a comma,train\n{path},c,test\n"
    table = tmp_path / "in/t.csv"
    table.write_text(body)
    (line,) = mistakes(table, text="text")
    assert line.startswith("row 2 (line 3): the row must have at most 3 cells like the header; got 4.")
    where = {"text": "text", "where": {"split": "train"}}
    assert mistakes(table, **where) == (line,), "`where` says nothing of a broken record"
    assert read(table, **where, on_error="skip").rows == (1,)
    table.write_text(body.replace("b, with a comma", '"b, with a comma"'))
    assert len(read(table, text="text")) == 3, "the first remedy helps"
    table.write_text(body.replace("image,text,split", "image,text,more,split"))
    assert len(read(table, text="text")) == 3, "the second remedy helps"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\ufeff\ufeff"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_tables_as_spreadsheet_programs_write_them(tmp_path, rows, sign, start, end):
    """Blank cells at the end left out or written too often, rows that were emptied, long and quoted cells."""
    path = rows[0]["image"]
    lines = [
        ["image", "text", "patient", "note"],
        [path, "one", "p1", "seen twice"],
        [path, "two", "p2"],
        ["", "", "", ""],
        [],
        [path, "three", "p3", "", "", " "],
        [path, f'"four{sign} said ""he""{end}and more"', "p4", ""],
        [path, "x" * 200_000, "p5"],
    ]
    text = start + end.join(sign.join(cells) for cells in lines)
    (tmp_path / "in/t.csv").write_bytes(text.encode())
    samples = read(tmp_path / "in/t.csv", text="text", patient="patient", columns=["note"])
    assert samples.patients == ("p1", "p2", "p3", "p4", "p5")
    assert samples.columns["note"] == ("seen twice", "", "", "", "")
    assert samples.texts[3].startswith(f'four{sign} said "he"')
    with pytest.raises(TableError) as caught:
        read(tmp_path / "in/t.csv", text="note", patient="patient")
    assert [line.partition(":")[0] for line in caught.value.mistakes] == [
        "row 2 (line 3)", "row 3 (line 6)", "row 4 (line 7)", "row 5 (line 9)",
    ]  # fmt: skip


def test_a_line_that_names_the_separator_for_excel_is_followed(tmp_path, rows):
    (tmp_path / "in/t.csv").write_text(f"sep=;\nimage;text\n{rows[0]['image']};a, b\ngone.png;c\n")
    assert mistakes(tmp_path / "in/t.csv")[0].startswith("row 2 (line 4): `image` must name a file")
    assert read(tmp_path / "in/t.csv", text="text", on_error="skip").texts == ("a, b",)


def test_a_quotation_mark_that_stays_open_is_refused(tmp_path, rows):
    path = rows[0]["image"]
    (tmp_path / "in/t.csv").write_text(f'image,text\n{path},a\n{path},"b\n{path},c\n')
    (line,) = mistakes(tmp_path / "in/t.csv", text="text")
    assert "must be well-formed CSV; the record that begins on line 3 is not" in line


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "must be a table as text or Parquet; got 0 bytes"),
        (zipped(), "got a spreadsheet or another zip archive"),
        ("image\na.png\n".encode("utf-16"), "got UTF-16"),
        (b"image\n\x00\x01\x02", "got binary data"),
        (b"PAR1 and no more", "must be readable; got a Parquet file without its end"),
        (b"\xef\xbb\xbf", "must have a header row; got no rows"),
        (b"\n\n", "must have a header row; got no rows"),
        (b"image,text\n", "must have rows; got a header alone"),
        (b"image,text,image\na.png,b,c.png\n", "must name a column once; got `image` more than once"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, says):
    (tmp_path / "t.csv").write_bytes(content)
    (line,) = mistakes(tmp_path / "t.csv")
    assert says in line


def test_columns_that_nobody_asked_for_may_repeat(tmp_path, rows):
    (tmp_path / "in/t.csv").write_text(f"image,note,note\n{rows[0]['image']},a,b\n")
    assert len(read(tmp_path / "in/t.csv")) == 1


def test_absent_tables_and_other_folders(tmp_path):
    assert mistakes(tmp_path / "none.csv") == ("`table` must exist; got no such file. Mend the path.",)
    (line,) = mistakes(tmp_path)
    assert line.startswith("`table` must be a table; got a folder without `state.json`.")
