"""The report holds the numbers it was given, loads nothing, and withholds what it must."""

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import pytest
from report_data import GivenExamples, report_data, results

from meddistill.evaluation.base.results import MEAN_TASK
from meddistill.report.curves import read_curves
from meddistill.report.data import Curves, ModelCard, ReportData
from meddistill.report.formatting import SHADES, signed_between
from meddistill.report.headline import headline
from meddistill.report.models import model_styles
from meddistill.report.scores import heat_map, task_rows
from meddistill.report.stages import stages
from meddistill.report.write import render, write_report

PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Page(HTMLParser):
    """Elements, their attributes and text; complains of tags that do not close in order."""

    VOID: ClassVar = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_all_sections_and_numbers() -> None:
    page = Page(render(report_data()))
    headings = {dict(attrs).get("id") for tag, attrs in page.tags if tag == "section"}
    assert headings == {
        "scores", "models", "differences", "modalities", "retrieval", "agreement", "training", "size",
        "licences", "methods", "reproduce",
    }  # fmt: skip
    for said in ("0.820", "0.770 to 0.870", "+0.120", "86.2 M", "4.37", "2 170", "name: tiny"):
        assert said.replace(" ", "") in page.text.replace("\u202f", "").replace(" ", ""), said
    assert "5.0% of 100 distinct training captions" in page.text.replace("\u202f", " ")


def test_links_lead_to_sections() -> None:
    page = Page(render(report_data()))
    targets = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links
    assert {str(link).removeprefix("#") for link in links} <= targets


def test_loads_nothing_and_runs_nothing() -> None:
    examples = GivenExamples(pictures={("pairs", 3): PIXEL, ("pairs", 4): b"\xff\xd8jpeg"})
    html = render(report_data(examples=examples))
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    sources = [str(attrs["src"]) for _, attrs in page.tags if "src" in attrs]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"url\(|@import|http-equiv=\"refresh|\son\w+=", html)
    assert "default-src 'none'" in html


def test_text_is_escaped() -> None:
    nasty = '<script>alert("x")</script>'
    data = report_data(title=nasty, subtitle=nasty, warnings=[nasty], facts=[(nasty, nasty)])
    html = render(dataclasses.replace(data, recipe_yaml=nasty, command=nasty))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 7


def test_without_examples_neither_pictures_nor_captions() -> None:
    page = Page(render(report_data()))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "withheld" in page.text
    assert "7.5" in page.text


def test_examples_are_shown_with_their_captions() -> None:
    captions = {("pairs", 3): "a caption of the third row", ("pairs", 4): "a wrong one"}
    examples = GivenExamples(pictures={("pairs", 3): PIXEL, ("pairs", 4): PIXEL}, captions=captions)
    page = Page(render(report_data(examples=examples)))
    assert [tag for tag, _ in page.tags].count("img") == 3
    assert page.text.count("a caption of the third row") == 2
    assert "withheld" not in page.text


@pytest.mark.parametrize(
    ("half", "verdict", "words"),
    [(0.02, "better", "scores higher than"), (0.5, "unclear", "does not differ clearly from")],
)
def test_headline_follows_the_interval(half: float, verdict: str, words: str) -> None:
    found = headline(report_data(results=results(half=half)))
    assert found is not None
    assert found.verdict == verdict
    assert words in found.sentence
    assert "0.66 against 0.47" in found.sentence
    assert "86 times smaller" in found.sentence
    (size,) = [tile for tile in found.tiles if tile.label == "parameters of the student"]
    assert size.note == "25% of its smallest teacher, 1% of all 2"


def test_a_bound_beside_zero_shows_its_side() -> None:
    assert signed_between(0.003, 0.064, 2) == "+0.003 to +0.064"
    assert signed_between(-0.01, 0.064, 2) == "−0.01 to +0.06"
    assert signed_between(0.0, 0.064, 2) == "0.00 to +0.06"


def test_heat_runs_from_chance_to_the_best_model() -> None:
    found = results()
    table = heat_map(found, model_styles(found))
    assert [title.name for title, _ in table.rows] == ["findings", "retrieval", MEAN_TASK]
    by_name = {title.name: cells for title, cells in table.rows}
    names = [title.name for title in table.columns]
    cells = dict(zip(names, by_name["findings"], strict=True))
    assert cells["student"].shade == SHADES - 1
    assert cells["student"].best
    assert cells["skin"].shade == 0
    missing = dict(zip(names, by_name["retrieval"], strict=True))["skin"]
    assert missing.shade is None
    assert missing.interval == "no text tower"


def test_best_teacher_of_each_task_stands_beside_the_student() -> None:
    found = results()
    rows = {row.task: row for row in task_rows(found, model_styles(found))}
    assert [cell.value for cell in rows["findings"].cells] == ["0.820", "0.720", "0.700", "+0.120"]
    assert rows["findings"].cells[2].name == "radiology"
    assert rows["findings"].cells[3].verdict == "better"
    assert rows[MEAN_TASK].is_mean


def test_a_run_without_results_can_be_reported(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(ReportData(title="empty"), path)
    page = Page(path.read_text(encoding="utf-8"))
    assert {attrs.get("id") for tag, attrs in page.tags if tag == "section"} == {"methods", "reproduce"}
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_same_record_same_bytes() -> None:
    assert render(report_data()) == render(report_data())


@pytest.mark.parametrize(("teachers", "drawn"), [(2, ["a, b"]), (5, ["least", "median", "greatest"])])
def test_cosines_of_the_teachers_gradients_are_drawn_each_or_by_their_spread(teachers, drawn) -> None:
    pairs = list(itertools.combinations("abcde"[:teachers], 2))
    series = {f"gradients/cosine/{a}/{b}": (place / 10, None, 0.5) for place, (a, b) in enumerate(pairs)}
    series |= {"gradients/conflict": (0.25, None, 0.0), "loss": (2.0, 1.5, 1.0)}
    (stage,) = stages([Curves(stage="s", steps=(1, 2, 3), series=series)], ())
    _, cosines, conflict = stage.plots
    assert [label for label, _ in cosines.legend] == drawn
    assert cosines.title.startswith("Cosine between the gradients of two teachers")
    assert conflict.title == "Pairs of teachers in conflict (cosine below 0)"
    (bare,) = stages([Curves(stage="s", steps=(1,), series={"loss": (2.0,)})], ())
    assert [plot.title for plot in bare.plots] == ["Loss"]


def test_curves_of_a_log_with_damage(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1, "loss": 2.0}\nnot json\n{"step": 2, "loss": NaN, "x": 1}\n{"step": 3, "lo')
    curves = read_curves(log, stage="s")
    assert curves.steps == (1, 2)
    assert curves.series == {"loss": (2.0, None), "x": (None, 1.0)}
    assert read_curves(tmp_path / "absent", stage="s").steps == ()


def pretrained(**data_sets: tuple[str, ...]) -> ReportData:
    """The report's record with a task of known origin and models of known pretraining."""
    found = results()
    tasks = (found.tasks[0].model_copy(update={"datasets": ("CheXpert", "RSNA")}), found.tasks[1])
    models = tuple(
        facts.model_copy(update={"pretraining_data": data_sets.get(facts.name, ())}) for facts in found.models
    )
    return report_data(results=found.model_copy(update={"tasks": tasks, "models": models}))


def test_scores_on_what_a_model_was_pretrained_on_are_marked() -> None:
    data = pretrained(radiology=("mimic-cxr", "chexpert"), student=("CheXpert",))
    looked = model_styles(data.results)
    heat = {title.name: cells for title, cells in heat_map(data.results, looked).rows}
    marked = {task: [style.name for style, cell in zip(looked, cells, strict=True) if cell.seen]
              for task, cells in heat.items()}  # fmt: skip
    assert marked == {
        "findings": ["student", "radiology"],
        "retrieval": [],
        MEAN_TASK: ["student", "radiology"],
    }
    page = Page(render(data))
    marks = [attrs for tag, attrs in page.tags if tag == "sup" and attrs.get("class") == "seen"]
    assert {attrs["title"] for attrs in marks} == {"pretrained on CheXpert"}
    assert "findings: student (CheXpert), radiology (CheXpert)" in page.text
    assert "† The model was pretrained on the data set that the task comes from" in page.text


def test_no_mark_and_no_legend_where_nothing_is_shared() -> None:
    for data in (report_data(), pretrained(radiology=("MIMIC-CXR",))):
        assert "†" not in render(data)


def _sizes(html: str) -> str:
    section = html[html.index('<section id="size">') :]
    return section[: section.index("</section>")]


def test_sizes_have_no_column_without_a_figure() -> None:
    whole = _sizes(render(report_data()))
    for title in ("Parameters", "Input, px", "batch of 16"):
        assert title in whole
    for title in ("Stored, MB", "Embedding", "Context"):
        assert title not in whole
    bare = [ModelCard(name="student", role="student"), ModelCard(name="skin", role="teacher", embed_dim=512)]
    dims = _sizes(render(report_data(models=bare, captions=None)))
    assert re.findall(r'scope="col">(?:<[^>]*>)*([^<]+)', dims) == ["Model", "Embedding"]
    nothing = report_data(models=[ModelCard(name="student", role="student")], captions=None)
    assert 'id="size"' not in render(nothing)


def test_tasks_are_spelt_alike_in_warnings() -> None:
    found = results()
    task = found.tasks[0].model_copy(update={"name": "chest_findings"})
    told = ("chest_findings: few of them", "column age_band: odd")
    data = report_data(results=found.model_copy(update={"tasks": (task,), "warnings": told}))
    html = render(data)
    assert "<li>chest findings: few of them</li>" in html
    assert "<li>column age_band: odd</li>" in html


def test_intervals_of_calibration_errors_are_explained() -> None:
    found = results()
    words = "its interval can lie above its value, most of all"
    assert words not in render(report_data())
    row = found.results[0].model_copy(update={"metric": "adaptive_ece", "main": False})
    more = found.model_copy(update={"results": (*found.results, row)})
    assert words in render(report_data(results=more))


def test_every_table_and_chart_scrolls_by_itself() -> None:
    html = render(report_data())
    tables = re.findall(r"(<[^>]+>)\s*<table", html)
    assert tables
    assert set(tables) == {'<div class="scroll">'}
    style = html[html.index("<style>") : html.index("</style>")]
    assert ".scroll, .chart-scroll { overflow-x: auto; }" in style
