"""Bad tables, recipes and suites through the whole product: everything wrong is told at once, with rows."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bad_rows import BAD, WRONGLY_NAMED, Bad, add_bad_rows, rename_wrongly
from faulty_world import COLUMNS, TESTED, TRAINED, Say, World, steps_done

from forked import Forked
from meddistill.cli import main
from meddistill.features.reader import FeatureStore
from toy_features import tree

DAMAGED_IMAGES = [fault for fault in BAD if fault.says.startswith("must")]


def _lines_of(message: str, row: int) -> list[str]:
    return re.findall(rf"^ *(?:.*: )?(row {row}(?: \(line {row + 1}\))?: .*)$", message, re.MULTILINE)


def _every_row_is_named(message: str, faults: dict[int, Bad]) -> None:
    for row, fault in faults.items():
        lines = _lines_of(message, row)
        assert len(lines) == 1, (fault.name, message)
        assert fault.says in lines[0], fault.name
    assert len(re.findall(r"\brow \d+(?: \(line \d+\))?: `", message)) == len(faults)


@pytest.mark.parametrize("verb", ["extract", "train", "run"])
def test_all_bad_rows_are_told_at_once(verb: str, world: World, say: Say) -> None:
    rename_wrongly(world)
    faults = add_bad_rows(world)
    told = say(verb, world.write(), "--out", world.out).refused(f"pairs.csv: {len(BAD)} mistakes")
    _every_row_is_named(told, faults)
    assert told.splitlines()[-1].strip().startswith("Mend these rows, or write `on_error: skip`")
    assert WRONGLY_NAMED not in told
    assert list(world.out.rglob("*")) == []


def test_check_tells_the_rows_of_every_table(world: World, say: Say) -> None:
    faults = add_bad_rows(world)
    del world.suite["tables"]["train"], world.suite["tasks"][1]
    BAD[0].spoil(world.folder, world.rows[-1])
    said = say("check", world.write(), "--out", world.out)
    last = f"table test ({world.folder / 'pairs.csv'}): row {len(world.rows)}: "
    told = said.refused(f"recipe.yaml: {len(BAD) + 1} mistakes", last)
    _every_row_is_named(told, {**faults, len(world.rows): BAD[0]})
    assert "`on_error: skip`" in told.splitlines()[-1]
    assert not world.out.exists()


def test_as_a_process(world: World) -> None:
    faults = add_bad_rows(world)
    with Forked(main, ["run", str(world.write()), "--out", str(world.out)]) as process:
        code, out, err = process.ended()
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    _every_row_is_named(err, faults)


def test_skipped_rows_are_counted_and_change_nothing_else(finished: World, tmp_path: Path, say: Say) -> None:
    world = World.make(tmp_path / "world")
    faults = add_bad_rows(world)
    world.skipping()
    world.recipe["student"] = finished.recipe["student"]
    said = say("run", world.write(), "--out", world.out).went_well()
    _every_row_is_named(said.err, faults)
    count = f"left out as unusable: {len(BAD)} rows (rows 2, 4, 6, 8, 10 and {len(BAD) - 5} more)"
    assert f"training table: {count}" in said.err
    assert f"table train: {count}" in said.err

    report = re.sub(r"\s*<[^>]*>\s*", "|", (world.out / "report.html").read_text(encoding="utf-8"))
    assert re.search(rf"Rows left out\|+{len(BAD)}\|", report)
    assert f"training table: {count}" in report
    assert "images/gone" not in report  # how many and which rows, but no cell of them

    store = FeatureStore.open(world.out / "features")
    assert store.manifest.rows("images") == TRAINED
    assert tree(world.out / "features") == tree(finished.out / "features")
    # Not one bit of the student comes from a row that was left out.
    assert tree(world.out / "student") == tree(finished.out / "student")
    mine, theirs = (_results(run) for run in (world.out, finished.out))
    assert mine["results"] == theirs["results"]


def _results(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation" / "results.json").read_text())


def test_a_table_without_a_good_row_is_refused_even_when_skipping(world: World, say: Say) -> None:
    faults = add_bad_rows(world)
    double = next(row for row, fault in faults.items() if fault.name == "same id")  # good once it is alone
    bad = {row: fault for row, fault in faults.items() if row != double}
    world.rows = [world.rows[row - 1] for row in bad]
    world.skipping()
    told = say("train", world.write(), "--out", world.out).refused(f"pairs.csv: {len(bad)} mistakes")
    _every_row_is_named(told, dict(enumerate(bad.values(), start=1)))
    assert steps_done(world.out) == set()


def test_bad_images_of_the_suite_stop_a_run_before_anything_is_trained(world: World, say: Say) -> None:
    first = len(world.rows) - len(DAMAGED_IMAGES)
    for place, fault in enumerate(DAMAGED_IMAGES):
        fault.spoil(world.folder, world.rows[first + place])
    told = say("run", world.write(), "--out", world.out).refused("suite colours: 7 mistakes", "table test")
    _every_row_is_named(told, {first + 1 + place: fault for place, fault in enumerate(DAMAGED_IMAGES)})
    assert steps_done(world.out) == set()
    assert not (world.out / "features").exists()

    world.skipping()
    say("run", world.write(), "--out", world.out).went_well()
    found = _results(world.out)
    assert {task["name"]: task["n"] for task in found["tasks"]}["colour"] == TESTED - len(DAMAGED_IMAGES)
    rows = f"rows {first + 1}, {first + 2}, {first + 3}, {first + 4}, {first + 5} and 2 more"
    assert f"table test: left out as unusable: 7 rows ({rows})" in found["warnings"]


# --- tables as a whole ------------------------------------------------------------------------------------


def _columns(world: World) -> None:
    for row in world.rows:
        row["caption"] = row.pop("text")
        row["patient_id"] = row.pop("patient")
    columns = [{"text": "caption", "patient": "patient_id"}.get(name, name) for name in COLUMNS]
    lines = [",".join(columns), *(",".join(row[name] for name in columns) for row in world.rows)]
    (world.folder / "pairs.csv").write_text("\n".join(lines))


def _content(content: bytes) -> Callable[[World], None]:
    return lambda world: (world.folder / "pairs.csv").write_bytes(content) and None


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (
            _columns,
            [
                "`text` must name a column; got `text`, the table has",
                "`patient` must name a column; got `patient`, the table has",
                "Did you mean `patient_id`?",
            ],
        ),
        (_content(b""), ["`table` must be a table as text or Parquet; got 0 bytes"]),
        (_content(b"PK\x03\x04 a spreadsheet"), ["got a spreadsheet or another zip archive"]),
        (_content("id,image".encode("utf-16")), ["got UTF-16"]),
        (_content(b"PAR1 no parquet PAR1"), ["`table` must be readable; got"]),
        (_content(",".join(COLUMNS).encode()), ["must have rows; got a header alone"]),
        (_content(b'id,image\n1,"a.png\n2,b.png\n'), ["must be well-formed CSV", "line 2"]),
        (lambda world: (world.folder / "pairs.csv").unlink(), ["`table` must exist; got no such file"]),
    ],
    ids=["columns", "empty", "spreadsheet", "utf-16", "parquet", "header", "quotes", "missing"],
)
def test_tables_that_are_none(
    spoil: Callable[[World], None], messages: list[str], world: World, say: Say
) -> None:
    recipe = world.write()
    spoil(world)
    for verb in ("check", "run"):
        say(verb, recipe, "--out", world.out).refused("pairs.csv", *messages)
        assert steps_done(world.out) == set()


def test_cells_that_a_row_has_too_many_of(world: World, say: Say) -> None:
    """Those that it has too few of are blanks, as spreadsheets leave them."""
    recipe = world.write()
    lines = (world.folder / "pairs.csv").read_text().splitlines()
    lines[3] += ",more"
    lines[5] = lines[5].rpartition(",")[0]
    (world.folder / "pairs.csv").write_text("\n".join(lines))
    said = say("run", recipe, "--out", world.out)
    assert "row 5" not in said.refused("pairs.csv: 1 mistake", "row 3 (line 4): the row must have at most 7")


# --- recipes and suites -----------------------------------------------------------------------------------


def test_all_mistakes_of_recipe_and_suite_are_told_at_once(world: World, say: Say) -> None:
    world.recipe["studnet"] = {}
    world.recipe["stages"][0]["epoch"] = 3
    world.recipe["features"]["precison"] = "float16"
    world.recipe["teachers"]["one"]["kind"] = "openclip"
    world.recipe["data"]["train"]["on_error"] = "ignore"
    world.suite["tasks"][0]["template"] = ["a {}"]
    recipe = world.write()
    for verb in ("check", "run"):
        said = say(verb, recipe, "--out", world.out)
        said.refused(
            "`studnet` must be a known key. Did you mean `student`?",
            "epoch` must be a known key. Did you mean `epochs`?",
            "`features.precison` must be a known key. Did you mean `precision`?",
            "got 'openclip'. Did you mean `open_clip`?",
            "`data.train.on_error` must be",
            "template` must be a key of kind zero_shot; it belongs to kind vqa_zero_shot.",
            "Did you mean `templates`?",
            "6 mistakes",
        )
        assert not world.out.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("recipe.yaml", b"name: [", "recipe.yaml: 1 mistake\n  the file must be YAML"),
        ("recipe.yaml", b"name: \xff\xfe", "the file must be readable UTF-8 text"),
        ("recipe.yaml", b"- a\n- b\n", "must hold a mapping of keys; got list"),
        ("recipe.yaml", b"", "must hold a mapping of keys"),
        ("recipe.yaml", b"name: !!python/object/apply:os.system ['touch ran']\n", "the file must be YAML"),
        ("suite.yaml", b"tables: {", "the file must be YAML"),
    ],
)
def test_files_that_are_no_recipes(
    name: str, content: bytes, message: str, world: World, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = world.write()
    (world.folder / name).write_bytes(content)
    monkeypatch.chdir(world.folder)
    say("run", recipe, "--out", world.out).refused(message)
    assert not (world.folder / "ran").exists()
    assert not world.out.exists()


def test_recipes_and_suites_that_are_not_there(world: World, say: Say) -> None:
    recipe = world.write()
    (world.folder / "suite.yaml").unlink()
    say("run", recipe, "--out", world.out).refused(
        "`evaluate.suite`: the file must exist; nothing is at ", "suite.yaml"
    )
    say("check", world.folder / "gone.yaml").refused("gone.yaml", "the file must exist")


def _label(world: World) -> None:
    world.suite["tasks"][0]["label"] = "lable"


def _unknown_class(world: World) -> None:
    world.suite["tasks"][0]["classes"] = ["red", "blue"]


def _one_class(world: World) -> None:
    world.suite["tasks"][1]["where"] = {"label": "red"}


def _no_rows(world: World) -> None:
    world.suite["tasks"][0]["where"] = {"label": "mauve"}


def _no_table_rows(world: World) -> None:
    world.suite["tables"]["test"]["where"]["label"] = "mauve"


def _blank_label(world: World) -> None:
    world.rows[-1]["label"] = world.rows[-2]["label"] = " "


def _leak(world: World) -> None:
    world.rows[-1]["patient"] = world.rows[0]["patient"]


def _all_of_them(world: World) -> None:
    for spoil in (_unknown_class, _one_class, _leak):
        spoil(world)


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (_label, ["`lable` must be a column", "Did you mean `label`?"]),
        (_unknown_class, ["`label` must be a class of task `colour` (red, blue); got 'green' (4 rows)"]),
        (_one_class, ["`label` must have two classes at least for task `near`; got 'red' alone"]),
        (_no_rows, ["task colour: `where` must keep rows of table `test`; got {'label': 'mauve'}"]),
        (_no_table_rows, ["`where.label` must be values that occur; got 'mauve'"]),
        (_blank_label, ["`label` must not be blank; it is in rows 35, 36"]),
        (_leak, ["must not share patients; 1 patient is in both (rows 1, 7, 13, 19 of"]),
        (_all_of_them, ["got 'green' (4 rows)", "got 'red' alone"]),
    ],
)  # fmt: skip
def test_suites_that_do_not_fit_their_tables(
    spoil: Callable[[World], None], messages: list[str], world: World, say: Say
) -> None:
    spoil(world)
    recipe = world.write()
    for verb in ("check", "run"):
        told = say(verb, recipe, "--out", world.out).refused("suite colours", *messages)
        assert "train-patient" not in told
        assert steps_done(world.out) == set()
        assert not (world.out / "features").exists()
