"""Maps of attention, places in tables and stored features, and what a touched file makes again."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bag_world import bag_suite, write_bags, write_features
from colour_world import ColourModel

from meddistill.errors import ConfigError
from meddistill.evaluation.base.exhibits import BagAttention
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.bags.places import MOST_CELLS, attention_map
from meddistill.evaluation.tasks.bags.predictions import BagPredictions
from meddistill.evaluation.tasks.classification.classes import absent_classes
from meddistill.progress import SilentProgress
from recording_progress import RecordingProgress


def _uniform(places: list[tuple[int, int]], **more: Any) -> Any:
    count = len(places)
    weights = more.get("weights", np.full(count, 1 / count))
    return attention_map(np.array(places), np.asarray(weights, dtype=float), np.arange(1, count + 1))


def test_a_map_by_hand() -> None:
    """Three tiles of 100: an L, of which the foot counts most."""
    found = _uniform([(500, 300), (500, 400), (600, 400)], weights=[0.25, 0.5, 0.25])
    assert (found.columns, found.rows) == (2, 2)
    assert found.cells == (0, 2, 3)
    assert found.attention == (0.75, 1.5, 0.75)
    assert found.instances == (1, 2, 3)


def test_rounded_corners_and_grids_that_do_not_meet() -> None:
    """Tiles of 512.4 pixels, whose corners are whole; CLAM's second piece begins at 200 pixels more."""
    wide = [(round(512.4 * column), round(512.4 * row)) for row in range(2) for column in range(70)]
    found = _uniform(wide)
    assert (found.columns, found.rows, len(found.cells)) == (70, 2, 140)
    pieces = [(512 * column, 512 * row) for row in range(3) for column in range(3)]
    shifted = [(x + 512 * 6 + 200, y + 200) for x, y in pieces]
    found = _uniform(pieces + shifted)
    assert (found.columns, found.rows, len(found.cells)) == (9, 3, 18)


def test_large_maps_join_cells() -> None:
    """200 x 50 tiles in cells of 3 x 3: the mean stands there, and the most attended tile for its cell."""
    places = [(256 * column, 256 * row) for row in range(50) for column in range(200)]
    weights = np.ones(len(places))
    weights[203] = 10.0  # second row, fourth column: the second cell
    found = _uniform(places, weights=weights / weights.sum())
    assert (found.columns, found.rows) == (67, 17)
    assert max(found.columns, found.rows) <= MOST_CELLS
    assert found.instances[:2] == (1, 204)
    total = weights.sum()
    assert found.attention[1] == pytest.approx((8 + 10) / 9 * len(places) / total, rel=5e-3)


def test_maps_of_few_places() -> None:
    assert _uniform([(7, 7)]) is None
    assert _uniform([(7, 7), (7, 7)]) is None
    line = _uniform([(0, 0), (0, 256), (0, 512)])
    assert (line.columns, line.rows, line.cells) == (1, 3, (0, 1, 2))
    diagonal = _uniform([(0, 0), (256, 256)])
    assert (diagonal.columns, diagonal.rows, diagonal.cells) == (2, 2, (0, 3))
    far = _uniform([(0, 0), (1, 0), (10**9, 10**9)])
    assert max(far.columns, far.rows) <= MOST_CELLS
    same = _uniform([(0, 0), (0, 0), (9, 0)])
    assert same.cells == (0, 1)


def _placed(folder: Path, *, bad: str = "") -> Path:
    """The world of bags with places: images of a bag side by side, the column x of the third row `bad`."""
    world = write_bags(folder)
    lines = (world / "bags.csv").read_text().splitlines()
    numbers: dict[str, int] = {}
    rows = [f"{lines[0]},x,y"]
    for place, each in enumerate(lines[1:]):
        slide = each.rpartition(",")[2]
        number = numbers[slide] = numbers.get(slide, -1) + 1
        x = bad if bad and place == 2 else f"{256.0 * number}"
        rows.append(f"{each},{x},512")
    (world / "bags.csv").write_text("\n".join(rows))
    return world


def _evaluate(world: Path, folder: Path, progress: RecordingProgress | None = None, **more: Any) -> Results:
    suite = bag_suite(bag="slide", epochs=2, seeds=2, **more)
    models = [ColourModel(), ColourModel("sharp", "teacher", seed=1), ColourModel("b", "teacher", noise=0.5)]
    return evaluate(models, suite, base=world, folder=folder, progress=progress or SilentProgress())


def test_places_go_from_the_table_to_the_exhibits(tmp_path: Path) -> None:
    world = _placed(tmp_path)
    told = RecordingProgress()
    results = _evaluate(world, tmp_path / "out", told, place=["x", "y"])
    assert told.bars["student: diagnosis"] == ("epochs", 4, 4)
    shown = [each for each in results.exhibits if isinstance(each, BagAttention)]
    assert {each.model for each in shown} == {"student", "sharp", "b", "teacher mean"}
    for each in shown:
        assert each.places is not None
        assert (each.places.columns, each.places.rows) == (each.instances, 1)
        by_row = dict(zip(each.rows, each.weights, strict=True))
        # The images of a bag stand one after the other in the table and on the slide.
        assert list(each.places.instances) == sorted(by_row)
        wanted = [by_row[row] * each.instances for row in sorted(by_row)]
        assert list(each.places.attention) == pytest.approx(wanted, rel=5e-3)
    dump = read_predictions(tmp_path / "out" / "predictions" / "diagnosis" / "student.parquet")
    assert isinstance(dump, BagPredictions)
    assert dump.places is not None
    for places, numbers in zip(dump.places, dump.instances, strict=True):
        assert places.tolist() == [[256 * number, 512] for number in range(len(numbers))]
    some = dump.take(dump.rows == dump.rows[0])
    assert [each.tolist() for each in some.places] == [dump.places[0].tolist()] * 3


@pytest.mark.parametrize("bad", ["left", "nan", "inf", "1e300"])
def test_places_must_be_numbers(tmp_path: Path, bad: str) -> None:
    world = _placed(tmp_path, bad=bad)
    suite = bag_suite(bag="slide", place=["x", "y"], train="test", test="train")  # the bad row is tested
    with pytest.raises(ConfigError, match=r"`x` must hold numbers, .* in row 3") as error:
        check_tasks(suite, SuiteTables(suite, base=world))
    assert bad not in str(error.value)


def test_stored_corners_become_maps_and_a_touched_file_makes_one_baseline_again(tmp_path: Path) -> None:
    world = write_bags(tmp_path)
    for folder in ("uni", "other"):
        for number in range(30):
            path = tmp_path / folder / f"slide{number}.h5"
            write_features(path, np.random.default_rng(number).normal(size=(4, 3)).astype(np.float32))
            with h5py.File(path, "r+") as file:
                file["coords"][...] = [[0, 0], [512, 0], [0, 512], [512, 512]]
    with h5py.File(tmp_path / "other" / "slide4.h5", "r+") as file:
        del file["coords"]
    stored = {name: str(tmp_path / name) for name in ("uni", "other")}
    out = tmp_path / "out"
    results = _evaluate(world, out, stored=stored)
    shown = [each for each in results.exhibits if isinstance(each, BagAttention)]
    maps = {each.model: each.places for each in shown}
    assert maps["student"] is None
    assert maps["other"] is None  # of one tested bag the corners are not known
    assert maps["uni"] is not None
    assert (maps["uni"].columns, maps["uni"].rows, maps["uni"].instances) == (2, 2, (1, 2, 3, 4))
    times = {path.stem: path.stat().st_mtime_ns for path in (out / "predictions").rglob("*.parquet")}
    os.utime(tmp_path / "uni" / "slide0.h5", ns=(1, 1))
    again = _evaluate(world, out, stored=stored)
    after = {path.stem: path.stat().st_mtime_ns for path in (out / "predictions").rglob("*.parquet")}
    assert {name for name in after if after[name] != times[name]} == {"uni"}
    assert again.results == results.results
    _evaluate(world, out, stored={**stored, "third": str(tmp_path / "uni")})
    last = {path.stem: path.stat().st_mtime_ns for path in (out / "predictions").rglob("*.parquet")}
    assert {name for name in last if last[name] != after.get(name)} == {"third"}


def test_classes_without_tested_bags_are_named(tmp_path: Path) -> None:
    world = write_bags(tmp_path)
    results = _evaluate(world, tmp_path / "out", classes=["well", "ill", "worse"])
    wanted = "no tested rows of: worse; means over classes run over the others"
    assert any(wanted in each for each in results.warnings)
    assert absent_classes(["a", "b"], ["a", "b", "b"]) == []


def test_places_are_two_columns() -> None:
    with pytest.raises(ValueError, match="two columns, of x and of y"):
        bag_suite(place=["x", "x"])


def test_places_that_are_blank_are_refused(tmp_path: Path) -> None:
    world = write_bags(tmp_path)
    text = (world / "bags.csv").read_text().splitlines()
    (world / "bags.csv").write_text("\n".join([f"{text[0]},x,y", *(f"{line},,1" for line in text[1:])]))
    suite = bag_suite(place=["x", "y"])
    with pytest.raises(ConfigError, match="`x` must not be blank"):
        check_tasks(suite, SuiteTables(suite, base=world))
