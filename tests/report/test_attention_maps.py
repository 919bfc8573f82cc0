"""Maps of attention: squares in their places, one scale, pictures only where they may be shown."""

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path += [str(Path(__file__).parents[1] / "evaluation" / each) for each in (".", "bags")]
from bag_world import bag_suite, write_bags, write_features
from colour_world import ColourModel

from meddistill.evaluation.base.exhibits import AttentionMap, BagAttention
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.progress import SilentProgress
from meddistill.report.attention_maps import BOUNDS, SCALE, drawn, shade
from meddistill.report.bags import bag_sections
from meddistill.report.data import ReportData
from meddistill.report.examples import TableExamples
from meddistill.report.models import model_styles
from meddistill.report.write import render

PLACES = AttentionMap(columns=3, rows=2, cells=(0, 2, 4), attention=(0.3, 1.0, 40.0), instances=(7, 8, 9))


def test_squares_lie_in_their_places_and_shades() -> None:
    page = str(drawn(PLACES, 9, "<map>"))
    assert 'viewBox="-0.5 -0.5 4 3"' in page
    assert dict(re.findall(r'<path d="([^"]+)" class="tile-(\d)"', page)) == {
        "M0 0h1v1h-1z": "0",
        "M2 0h1v1h-1z": "2",
        "M1 1h1v1h-1z": "6",
    }
    assert re.findall(r'<rect x="(\d+)" y="(\d+)" width="1" height="1" class="highest"', page) == [("1", "1")]
    assert "&lt;map&gt;" in page


def test_shades_are_doublings() -> None:
    assert [shade(each) for each in (0.0, 0.49, 0.5, 1.0, 3.9, 4.0, 15.9, 16.0, 1e4)] == [
        *(0, 0, 1, 2, 3, 4, 5, 6, 6)
    ]
    assert len(SCALE) == len(BOUNDS) + 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bags with their images one under the other, 256 apart; and features of nobody knows what."""
    folder = write_bags(tmp_path_factory.mktemp("bags"))
    lines = (folder / "bags.csv").read_text().splitlines()
    rows = [f"{line},0,{256 * int(line.split('_')[1].split('.')[0])}" for line in lines[1:]]
    (folder / "bags.csv").write_text("\n".join([f"{lines[0]},x,y", *rows]))
    for number in range(30):
        features = np.random.default_rng(number).normal(size=(3, 4)).astype(np.float32)
        write_features(folder / "uni" / f"slide{number}.h5", features)
    return folder


@pytest.fixture(scope="module")
def suite(world: Path) -> SuiteConfig:
    stored = {"uni": str(world / "uni")}
    return bag_suite(bag="slide", place=["x", "y"], epochs=2, seeds=1, stored=stored)


@pytest.fixture(scope="module")
def results(world: Path, suite: SuiteConfig, tmp_path_factory: pytest.TempPathFactory) -> Results:
    models = [ColourModel(), ColourModel("sharp", "teacher", seed=1)]
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluate(models, suite, base=world, folder=folder, progress=SilentProgress())


def test_stored_features_stand_in_the_table_and_have_maps(results: Results) -> None:
    (task,) = bag_sections(results, None, model_styles(results, []))
    assert list(dict.fromkeys(row.model for row in task.rows)) == ["student", "sharp", "uni"]
    assert [(each.who, each.mapped) for each in task.attention] == [("the student", True), ("uni", True)]


def test_maps_are_shown_without_pictures(results: Results) -> None:
    page = render(ReportData(title="t", results=results))
    shown = [each for each in results.exhibits if isinstance(each, BagAttention) and each.model != "sharp"]
    assert page.count('class="chart attention"') == len(shown)
    assert page.count("Pictures are withheld") >= 1
    assert "data:image" not in page
    assert "Attention of uni" in page
    assert "an equal share" in page


def test_pictures_are_made_of_the_tiles(world: Path, suite: SuiteConfig, results: Results) -> None:
    examples = TableExamples(suite, SuiteTables(suite, base=world))
    attended = [each for each in results.exhibits if isinstance(each, BagAttention)]
    of_student = [each for each in attended if each.model == "student"]
    assert of_student
    lines = (world / "bags.csv").read_text().splitlines()
    for each in of_student:
        assert each.places is not None
        with Image.open(io.BytesIO(examples.slide("test", each.places))) as image:
            pixels = np.asarray(image).astype(int)
        side = 64
        assert pixels.shape == (side * each.places.rows, side * each.places.columns, 3)
        for cell, row in zip(each.places.cells, each.places.instances, strict=True):
            with Image.open(world / lines[row].split(",")[0]) as tile:
                wanted = np.asarray(tile).mean(axis=(0, 1))
            found = pixels[side * cell : side * (cell + 1)].mean(axis=(0, 1))
            np.testing.assert_allclose(found, wanted, atol=6)
    page = render(ReportData(title="t", results=results, examples=examples))
    assert all(base64.b64encode(examples.slide("test", each.places)).decode() in page for each in of_student)
    assert page.count("<image ") == len(of_student)


def test_no_map_where_places_are_not_known(world: Path, tmp_path: Path) -> None:
    suite = bag_suite(bag="slide", epochs=1, seeds=1, pooling=["mean"])
    results = evaluate([ColourModel()], suite, base=world, folder=tmp_path, progress=SilentProgress())
    examples = TableExamples(suite, SuiteTables(suite, base=world))
    page = render(ReportData(title="t", results=results, examples=examples))
    assert 'class="chart attention"' not in page
    assert "multiples of an equal share" not in page


@pytest.mark.parametrize(
    ("instances", "times", "more"),
    [(3, "1.5×", ""), (900, "450×", "; a square is the mean of several neighbours")],
)
def test_a_profile_with_a_map_tells_its_highest(
    results: Results, instances: int, times: str, more: str
) -> None:
    one = BagAttention(
        model="student",
        task="diagnosis",
        table="test",
        truth="ill",
        given="well",
        rows=(9, 8),
        weights=(0.5, 0.01),
        instances=instances,
        places=PLACES,
    )
    changed = results.model_copy(update={"exhibits": (one,)})
    (task,) = bag_sections(changed, None, model_styles(changed, []))
    (profile,) = task.attention[0].profiles
    assert profile.note == f"{instances} images; the highest attention is {times} an equal share{more}"
    assert profile.slide is None
