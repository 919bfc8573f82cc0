"""The section about bags: scores by pooling, profiles of attention, pictures only where they may be shown."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path += [str(Path(__file__).parents[1] / "evaluation" / each) for each in (".", "bags")]
from bag_world import bag_suite, write_bags
from colour_world import ColourModel
from report_data import GivenExamples

from meddistill.evaluation.base.exhibits import BagAttention
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.progress import SilentProgress
from meddistill.report.bags import bag_sections
from meddistill.report.data import ReportData
from meddistill.report.models import model_styles
from meddistill.report.svg import span
from meddistill.report.write import render


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    world = write_bags(tmp_path_factory.mktemp("bags"))
    models = [ColourModel(), ColourModel("sharp", "teacher", seed=1)]
    suite = bag_suite(epochs=2, seeds=1, label="grade", classes=["0", "1"], ordinal=True)
    folder = tmp_path_factory.mktemp("evaluation")
    return evaluate(models, suite, base=world, folder=folder, progress=SilentProgress())


def test_scores_stand_by_model_and_pooling(results: Results) -> None:
    (task,) = bag_sections(results, None, model_styles(results, []))
    assert task.columns == ("balanced accuracy", "macro AUC", "macro F1", "quadratic κ")
    rows = [(row.model, row.pooling) for row in task.rows]
    assert rows == [(model, way) for model in ("student", "sharp") for way in ("attention", "mean")]
    assert task.rows[0].cells[0].value == f"{results.main('student', 'diagnosis').value:.3f}"
    assert "10 test bags" in task.note
    assert [each.who for each in task.attention] == ["the student"]
    assert 1 <= len(task.attention[0].profiles) <= 6


def test_pictures_stay_away_unless_they_are_given(results: Results) -> None:
    page = render(ReportData(title="t", results=results))
    assert "Diagnosis of bags" in page
    assert "Pictures are withheld" in page
    assert "data:image" not in page
    assert page.count('class="bag"') >= 1
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format="PNG")
    attended = [each for each in results.exhibits if isinstance(each, BagAttention)]
    rows = {(each.table, row): buffer.getvalue() for each in attended for row in each.rows}
    page = render(ReportData(title="t", results=results, examples=GivenExamples(pictures=rows)))
    assert "data:image/png" in page
    assert "name-of" not in page


def test_a_profile_says_what_it_leaves_out(results: Results) -> None:
    large = BagAttention(
        model="student",
        task="diagnosis",
        table="",
        truth="0",
        given="1",
        rows=(5, 2),
        weights=(0.5, 0.1),
        instances=900,
    )
    changed = results.model_copy(update={"exhibits": (large,)})
    pictures = GivenExamples(pictures={("", 5): b"of no table"})
    (task,) = bag_sections(changed, pictures, model_styles(changed, []))
    (profile,) = task.attention[0].profiles
    assert (profile.title, profile.right) == ("0, taken for 1", False)
    assert profile.note == "900 images, 898 with less attention"
    assert str(profile.chart).count('class="bar"') == 2
    assert profile.pictures == ()


def test_an_axis_of_nothing_but_its_reference_has_a_width() -> None:
    """Models that score alike, which few bags make likely, differ by 0, with an interval from 0 to 0."""
    low, high = span([0.0, 0.0], include=[0.0])
    assert low == 0.0 < high
