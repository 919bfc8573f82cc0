"""Files of texts, good and bad."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meddistill.data.config import TextTable
from meddistill.data.text_bank import read_text_bank
from meddistill.errors import TableError


def lines_of(folder: Path, content: bytes, name: str = "texts.txt"):
    (folder / name).write_bytes(content)
    return read_text_bank(name, base=folder)


@pytest.mark.parametrize(
    "content",
    [b"no finding\nlarge, round opacity\n", b"\xef\xbb\xbfno finding\r\nlarge, round opacity"],
)
def test_a_line_is_a_text(tmp_path, content) -> None:
    bank = lines_of(tmp_path, content)
    assert bank.texts == ("no finding", "large, round opacity")
    assert bank.repeated == 0


def test_texts_that_a_model_cannot_tell_apart_count_once(tmp_path) -> None:
    bank = lines_of(tmp_path, b"No  finding\nopacity\nno finding\nopacity\n")
    assert (bank.texts, bank.repeated) == (("No  finding", "opacity"), 2)
    assert bank.fingerprint == lines_of(tmp_path, b"no finding\nopacity\n").fingerprint
    assert bank.fingerprint != lines_of(tmp_path, b"opacity\nno finding\n").fingerprint


def test_a_column_of_a_table(tmp_path) -> None:
    (tmp_path / "texts.csv").write_text('id,text\n1,"a, b"\n2,c\n')
    pq.write_table(pa.table({"label": ["x", "y"]}), tmp_path / "texts.parquet")
    assert read_text_bank(TextTable(table=Path("texts.csv")), base=tmp_path).texts == ("a, b", "c")
    table = TextTable(table=Path("texts.parquet"), text="label")
    assert read_text_bank(table, base=tmp_path).texts == ("x", "y")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"`texts` must hold texts; got none"),
        (b"\n", r"empty: line 1\."),
        (b"a\n\nb\n \t\nc\n\n", r"empty: lines 2, 4, 6\."),
        (b"a\n" + b"\n" * 7 + b"b", r"empty: lines 2, 3, 4, 5, 6 and 2 more"),
        (b"a\nb\xff\n\n", r"(?s)empty: line 3\..*other bytes stand in line 2\."),
        ("a\nb".encode("utf-16"), r"got binary data, or UTF-16"),
        (b"only one\nOnly  one\n", r"must hold 2 different texts at least; got 1 in 2 lines"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", r"Git"),
    ],
)
def test_bad_files_are_told_with_their_lines(tmp_path, content, match) -> None:
    with pytest.raises(TableError, match=match):
        lines_of(tmp_path, content)


def test_tables_and_folders_are_no_lines(tmp_path) -> None:
    with pytest.raises(TableError, match=r"got a \.csv file\. Of a table name the column: \{table: "):
        lines_of(tmp_path, b"text\na\nb\n", "texts.csv")
    with pytest.raises(TableError, match="must exist"):
        read_text_bank("absent.txt", base=tmp_path)
    with pytest.raises(TableError, match="must be readable"):
        read_text_bank(".", base=tmp_path)
    (tmp_path / "texts.csv").write_text("text,n\na,1\n ,2\nb,3\n")
    with pytest.raises(TableError, match=r"empty: row 2\."):
        read_text_bank(TextTable(table=Path("texts.csv")), base=tmp_path)
    with pytest.raises(
        TableError, match=r"`text` must name a column of the table; got 'caption'\. It has text, n"
    ):
        read_text_bank(TextTable(table=Path("texts.csv"), text="caption"), base=tmp_path)
