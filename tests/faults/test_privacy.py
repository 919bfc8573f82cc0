"""Names, dates and identifiers that were planted in headers, tables and captions: where they may not turn up.

Header values: nowhere, in no file and no output. Captions, patient ids, sample ids and names of image files:
in no file of a run; messages on the terminal may quote the cell that a user has to mend (a path, an id), and
a report shows images and captions if its recipe says `examples: true`.
"""

import hashlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from faulty_world import COLOURS, CommandResult, Say, World, write_table
from pydicom.dataset import Dataset

from dicom_files import dataset, write
from meddistill.cli import main
from meddistill.training.checkpoint import Checkpoints

HEADER = {
    "PatientName": "Qqsurname^Qqgiven",
    "PatientID": "QQPID-4711",
    "PatientBirthDate": "19370203",
    "StudyDate": "20190817",
    "StudyTime": "134759",
    "InstitutionName": "Qqhospital of Planting",
    "ReferringPhysicianName": "Qqphysician^Refers",
    "AccessionNumber": "QQACC998877",
    "StudyDescription": "Qqdescription",
    "ImageComments": "seen by Qqcomment",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.31337",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.31338",
}
PRIVATE, NESTED = "QQPRIVATE-0815", "Qqoperator^Nested"
NAMES = ("Qqsurname", "Qqgiven", "Qqhospital", "Qqphysician", PRIVATE, "Qqoperator")
HEADER_VALUES = (*HEADER.values(), *NAMES)
CAPTION, PATIENT, SAMPLE, FOLDER = "Qqcaption", "QQPATIENT", "QQSAMPLE", "qqfolder"


def _dicom(path: Path, colour: str, seed: int) -> None:
    """A small colour picture under a header full of planted values."""
    numbers = np.random.default_rng(seed)
    pixels = np.clip(np.array(COLOURS[colour]) + numbers.integers(-30, 30, (24, 24, 3)), 0, 255)
    made = dataset(pixels.astype(np.uint8), SamplesPerPixel=3, **HEADER)
    made.private_block(0x0099, "QQCREATOR", create=True).add_new(0x01, "LO", PRIVATE)
    nested = Dataset()
    nested.OperatorsName = NESTED
    made.ReferencedStudySequence = [nested]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path.parent, made, path.name)


def _damage(path: Path) -> None:
    """Cut the pixels off, and break an element that pydicom quotes when it complains."""
    content = path.read_bytes()[:-1000]
    path.write_bytes(content.replace(b"US\x02\x00\x18\x00", b"LO\x02\x0018", 1))


def plant(world: World) -> None:
    """Turn every picture of a world into a DICOM file, and its cells into planted ones."""
    for place, row in enumerate(world.rows):
        name = f"{FOLDER}-{place}/{PATIENT}-{place % 6}.dcm"
        _dicom(world.folder / name, row["label"], place)
        row["image"] = name
        row["id"] = f"{SAMPLE}-{place}"
        row["patient"] = f"{PATIENT}-{row['split']}-{place % 6}"
        row["text"] += f", reported for {CAPTION} {place}"


@dataclass(frozen=True)
class Planted:
    """A finished run over planted data, everything that it printed, logged and warned, and its world."""

    world: World
    output: str


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    world = World.make(tmp_path_factory.mktemp("planted") / "world")
    plant(world)
    world.skipping()
    world.recipe["stages"][0]["checkpoint_every"] = 1
    bad = {**world.rows[0], "image": f"{FOLDER}-bad/{PATIENT}-0.dcm", "id": f"{SAMPLE}-bad"}
    _dicom(world.folder / bad["image"], "red", 99)
    _damage(world.folder / bad["image"])
    world.rows.insert(3, bad)
    listened = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # Finished stages remove their checkpoints; here they are looked at.
        patch.setattr(Checkpoints, "remove_all", lambda _: None)
        warnings.simplefilter("always")
        handler = logging.StreamHandler(listened)
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            with redirect_stdout(listened), redirect_stderr(listened):
                code = main(["run", str(world.write()), "--out", str(world.out)])
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    assert code == 0, listened.getvalue()
    return Planted(world, listened.getvalue())


def texts_of(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and of what is packed inside it."""
    yield path.name.encode()
    yield path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        yield repr(table.schema.metadata).encode()
        yield "\n".join(str(column.to_pylist()) for column in table.columns).encode()


def found_in(folder: Path, needles: tuple[str, ...]) -> dict[str, set[str]]:
    """File → planted words in it, in any of the encodings that a library may write."""
    forms = {
        needle: {needle.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")}
        | {needle.encode().hex().encode()}
        for needle in needles
    }
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*"):
        for content in texts_of(path) if path.is_file() else ():
            lower = content.lower()
            for needle, codes in forms.items():
                if any(code.lower() in lower for code in codes):
                    found.setdefault(path.relative_to(folder).as_posix(), set()).add(needle)
    return found


def test_the_search_finds_what_is_there(planted: Planted, tmp_path: Path) -> None:
    found = found_in(planted.world.folder / f"{FOLDER}-1", HEADER_VALUES)
    assert found == {f"{PATIENT}-1.dcm": set(HEADER_VALUES)}
    table = {"sample": [f"{SAMPLE}-1"] * 99}
    import pyarrow as pa

    pq.write_table(pa.table(table), tmp_path / "x.parquet", compression="zstd")
    assert found_in(tmp_path, (SAMPLE,)) == {"x.parquet": {SAMPLE}}


def test_the_run_has_made_every_kind_of_file(planted: Planted) -> None:
    names = {path.relative_to(planted.world.out).as_posix() for path in planted.world.out.rglob("*")}
    for part in (
        "features/tables/images-0000.parquet", "features/teachers/one/manifest.json", "report.html",
        "stages/distill/log.jsonl", "stages/distill/checkpoints", "stages/distill/tensorboard",
        "student/open_clip_config.json", "evaluation/predictions/colour/student.parquet",
        "evaluation/predictions/retrieval/student.parquet", "evaluation/results.json", "steps.json",
        "bundle/README.md", "bundle/manifest.json", "bundle/prompts/colour.json", "recipe.yaml",
    ):  # fmt: skip
        assert part in names
    assert any(name.startswith("stages/distill/checkpoints/") for name in names)


def test_no_header_value_is_in_any_file_or_output(planted: Planted) -> None:
    assert found_in(planted.world.out, HEADER_VALUES) == {}
    assert [value for value in HEADER_VALUES if value.lower() in planted.output.lower()] == []


def test_no_caption_id_or_file_name_is_in_any_file(planted: Planted) -> None:
    assert found_in(planted.world.out, (CAPTION, PATIENT, SAMPLE, FOLDER)) == {}


def test_no_caption_or_patient_is_printed(planted: Planted) -> None:
    # The one bad row's path is told, which ends in its file's name; nothing else is.
    lines = [line for line in planted.output.splitlines() if not line.startswith("left out: row 4: `")]
    assert len(planted.output.splitlines()) - len(lines) == 1
    assert [line for line in lines if line.startswith("training table: ") and line.endswith("(row 4)")]
    rest = "\n".join(lines).lower()
    assert [word for word in (CAPTION, PATIENT, SAMPLE, FOLDER) if word.lower() in rest] == []


def test_ids_in_predictions_are_keyed_hashes(planted: Planted) -> None:
    evaluation = planted.world.out / "evaluation"
    table = pq.read_table(evaluation / "predictions" / "colour" / "student.parquet")
    tested = [row for row in planted.world.rows if row["split"] == "test"]
    assert len(set(table["sample"].to_pylist())) == len(tested)
    plain = {hashlib.sha256(row[name].encode()).hexdigest() for row in tested for name in ("id", "patient")}
    for column in table.columns:
        for value in map(str, column.to_pylist()):
            assert not any(digest.startswith(value) for digest in plain if len(value) >= 8)
    assert set(table["patient"].to_pylist()) <= set(range(2 * 6))
    assert (evaluation / "id_key").stat().st_mode & 0o077 == 0
    key = (evaluation / "id_key").read_bytes()
    others = [path for path in planted.world.out.rglob("*") if path.is_file() and path.name != "id_key"]
    assert [path for path in others if key in path.read_bytes()] == []


def test_examples_show_captions_where_they_are_asked_for_and_ids_nowhere(
    planted: Planted, tmp_path: Path, say: Say
) -> None:
    out = tmp_path / "run"
    shutil.copytree(planted.world.out, out)
    command = ("report", planted.world.folder / "recipe.yaml", "--out", out, "--set", "report.examples=true")
    said = say(*command).went_well()
    assert found_in(out, (CAPTION,)) == {"report.html": {CAPTION}}
    assert found_in(out, (*HEADER_VALUES, PATIENT, SAMPLE, FOLDER)) == {}
    assert [value for value in HEADER_VALUES if value.lower() in said.output.lower()] == []


def _says_nothing_of_headers(said: CommandResult) -> None:
    assert [value for value in HEADER_VALUES if value.lower() in said.output.lower()] == []
    assert [word for word in (CAPTION, SAMPLE) if word.lower() in said.output.lower()] == []


def test_a_bundle_at_work_says_nothing_of_headers(
    planted: Planted, finished: World, tmp_path: Path, say: Say
) -> None:
    bundle = finished.out / "bundle"
    images = [planted.world.folder / row["image"] for row in planted.world.rows[:3]]
    for form in ("table", "json", "csv"):
        said = say("classify", bundle, *images, "--labels", "red, mauve", "--format", form)
        _says_nothing_of_headers(said.went_well())
    _says_nothing_of_headers(say("embed", bundle, *images).went_well())
    output = tmp_path / "vectors" / "v.npy"
    _says_nothing_of_headers(say("embed", bundle, *images, "--output", output).went_well())
    assert found_in(output.parent, HEADER_VALUES) == {}


def test_errors_about_damaged_files_say_nothing_of_headers(
    planted: Planted, finished: World, tmp_path: Path, say: Say
) -> None:
    world = planted.world
    damaged = world.folder / world.rows[3]["image"]
    said = say("classify", finished.out / "bundle", damaged, "--labels", "red, mauve")
    assert f"`{damaged}` must be a whole DICOM file" in said.refused()
    _says_nothing_of_headers(said)
    recipe, out = world.folder / "recipe.yaml", tmp_path / "run"
    strict = ("--set", "data.train.on_error=raise", "--out", out)
    for verb in ("check", "run"):
        said = say(verb, recipe, *strict)
        assert f"row 4: `{damaged}` must be a whole DICOM file" in said.refused("1 mistake")
        _says_nothing_of_headers(said)
    assert found_in(out, (*HEADER_VALUES, CAPTION, SAMPLE, PATIENT)) == {}


def test_check_says_nothing_of_headers_captions_and_patients(planted: Planted, say: Say) -> None:
    said = say("check", planted.world.folder / "recipe.yaml", "--out", planted.world.out).went_well()
    _says_nothing_of_headers(said)
    assert PATIENT.lower() not in said.output.lower()


@pytest.mark.parametrize("column", ["patient", "text"])
def test_errors_about_cells_do_not_quote_patients_and_captions(
    column: str, planted: Planted, tmp_path: Path, say: Say
) -> None:
    """Splits that share patients, and bytes that are no UTF-8, are told by row."""
    rows = [dict(row) for row in planted.world.rows]
    if column == "patient":
        rows[-1]["patient"] = rows[0]["patient"]
    else:
        rows[0]["text"] = f"{CAPTION} l\udce9sion"
    folder = tmp_path / "world"
    shutil.copytree(planted.world.folder, folder, ignore=shutil.ignore_patterns("run"))
    write_table(folder / "pairs.csv", rows)
    said = say(
        "check", folder / "recipe.yaml", "--out", tmp_path / "run", "--set", "data.train.on_error=raise"
    )
    told = said.refused(
        "row 1 (line 2): `text` must be UTF-8" if column == "text" else "must not share patients"
    )
    assert f"{PATIENT}-train" not in told
    assert CAPTION not in told
