"""The section on question answering: its tables, and its examples where they may be shown."""

from pathlib import Path

import pytest
from PIL import Image
from report_data import GivenExamples, report_data, results, with_reference
from test_report import PIXEL, Page

from meddistill.evaluation.base.exhibits import AnsweredQuestion
from meddistill.evaluation.base.results import Result, Results, TaskFacts
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.recipes.summary import table_of
from meddistill.report.examples import TableExamples
from meddistill.report.models import model_styles
from meddistill.report.vqa import vqa_tables
from meddistill.report.write import render


def _row(model: str, metric: str, value: float | None, **more: object) -> Result:
    known = {
        "model": model, "role": "student" if model == "student" else "teacher", "task": "asked",
        "family": "vqa_closed_set", "metric": metric, "value": value, "n": 40, "patients": 20, "seed": 0,
        "library": "ours",
    }  # fmt: skip
    return Result.model_validate({**known, **more})


def _answered(*, row: int, right: bool, answer_row: int | None) -> AnsweredQuestion:
    return AnsweredQuestion(
        model="student", task="asked", table="test", row=row, right=right, question_type="organ",
        answer_table="train" if answer_row else "", answer_row=answer_row,
    )  # fmt: skip


@pytest.fixture
def found() -> Results:
    task = TaskFacts(
        name="asked", family="vqa_closed_set", main_metric="accuracy", n=40, patients=20, modalities={},
        include_in_mean=True, sha256="",
        facts={"answers": 1042, "answer_vocabulary": "trainval", "coverage": 0.875},
    )  # fmt: skip
    rows = (
        _row("student", "accuracy", 0.625, low=0.5, high=0.75, main=True),
        _row("student", "accuracy_open", 0.5, n=30),
        _row("student", "accuracy_closed", None, n=0),
        _row("student", "accuracy", 0.25, setting="question type: organ", n=16),
        _row("student", "accuracy", 0.9, modality="ct"),
        _row("radiology", "accuracy", 0.375, main=True, note="one pooled vector a question"),
        _row("skin", "accuracy", None, main=True, note="not applicable: the model has no text tower"),
    )
    exhibits = (
        _answered(row=3, right=True, answer_row=1),
        _answered(row=5, right=False, answer_row=2),
        _answered(row=6, right=False, answer_row=None),
    )
    whole = results()
    return whole.model_copy(
        update={"tasks": (*whole.tasks, task), "results": (*whole.results, *rows), "exhibits": exhibits}
    )


def test_models_by_kinds_of_questions(found: Results) -> None:
    (table,) = vqa_tables(found, None, model_styles(found))
    columns = [(title.name, title.note) for title in table.matrix.columns]
    assert columns == [("overall", "n = 40"), ("open", "n = 30"), ("closed", "n = 0"), ("organ", "n = 16")]
    rows = {title.name: [cell.value for cell in cells] for title, cells in table.matrix.rows}
    assert rows == {
        "student": ["0.625", "0.500", "–", "0.250"],
        "radiology": ["0.375", "–", "–", "–"],
        "skin": ["–", "–", "–", "–"],
    }
    assert table.coverage.replace("\u202f", " ") == (
        "40 questions of 20 patients; 1 042 answers can be given (trainval: those of the training and "
        "validation questions); 87.5 % of the test questions have theirs among them"
    )
    assert table.notes == (
        "radiology: one pooled vector a question",
        "skin: not applicable: the model has no text tower",
    )
    assert table.questions == ()


def test_questions_are_withheld_unless_they_may_be_shown(found: Results) -> None:
    page = Page(render(report_data(results=found)))
    assert "Visual question answering" in page.text
    assert "Questions, answers and pictures are withheld" in page.text
    assert "What organ" not in page.text


def test_questions_with_right_and_given_answers(found: Results) -> None:
    examples = GivenExamples(
        pictures={("test", 3): PIXEL},
        questions={("asked", "test", 3): "What organ <is> this?", ("asked", "test", 5): "And this?"},
        answers={
            ("asked", "test", 3): "Lung", ("asked", "test", 5): "Brain", ("asked", "train", 1): "lung",
            ("asked", "train", 2): "liver", ("other", "test", 5): "Wrong",
        },
    )  # fmt: skip
    html = render(report_data(results=found, examples=examples))
    text = Page(html).text
    assert "What organ <is> this?" in text
    assert "What organ &lt;is&gt; this?" in html
    assert "right answer: Brain" in text
    assert "student: liver" in text
    assert "student: an answer that no table has" in text
    assert "are withheld" not in text.split("Visual question answering")[-1]


def test_no_task_no_section() -> None:
    assert 'id="vqa"' not in render(report_data())


def test_questions_and_answers_stand_in_every_tasks_own_columns(found: Results, tmp_path: Path) -> None:
    lines = ["image,question,answer,frage,antwort,split"]
    for number in range(1, 8):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        words = f"question {number},answer {number},Frage {number},Antwort {number}"
        lines.append(f"{number}.png,{words},{'train' if number < 3 else 'test'}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    tables = {split: {"table": "t.csv", "where": {"split": split}} for split in ("train", "test")}
    task = {"name": "asked", "kind": "vqa_closed_set", "train": "train", "test": "test"}
    german = {**task, "name": "gefragt", "question": "frage", "answer": "antwort"}
    suite = SuiteConfig.model_validate({"name": "s", "tables": tables, "tasks": [task, german]})
    examples = TableExamples(suite, SuiteTables(suite, base=tmp_path))
    (tmp_path / "t.csv").unlink()  # the report reads no table
    assert [examples.question(name, "test", 3) for name in ("asked", "gefragt")] == ["question 3", "Frage 3"]
    assert [examples.answer(name, "train", 2) for name in ("asked", "gefragt")] == ["answer 2", "Antwort 2"]
    assert examples.caption("test", 3) == ""
    asked = found.model_copy(update={"examples": ()})
    text = Page(render(report_data(results=asked, examples=examples))).text
    assert all(f"question {row}" in text for row in (3, 5, 6))
    assert "student: answer 2" in text
    assert "Frage" not in text


def test_the_terminal_tells_the_coverage_too(found: Results) -> None:
    (note,) = [each for each in table_of(found).notes if each.startswith("asked: ")]
    assert note == f"asked: {vqa_tables(found, None, model_styles(found))[0].coverage}"
    assert "87.5 % of the test questions have theirs among them" in note


def test_narrowed_candidates_are_told(found: Results) -> None:
    task = found.tasks[-1].model_copy(
        update={"facts": {"answers": 1042, "answer_vocabulary": "train", "coverage": 0.5, "candidates": 90}}
    )
    (table,) = vqa_tables(found.model_copy(update={"tasks": (task,)}), None, model_styles(found))
    assert "), at most 90 to a question; 50.0 % of the test questions" in table.coverage


def test_the_tasks_own_baselines_stand_below_the_models(found: Results) -> None:
    whole = with_reference(found, "most frequent answer", "asked", accuracy=0.75)
    (table,) = vqa_tables(whole, None, model_styles(whole))
    names = [(title.name, title.muted) for title, _ in table.matrix.rows]
    assert names == [
        ("student", False), ("radiology", False), ("skin", False), ("most frequent answer", True),
    ]  # fmt: skip
    assert table.matrix.rows[-1][1][0].value == "0.750"
    page = render(report_data(results=whole))
    section = page[page.index('<section id="vqa">') :]
    row = next(line for line in section.split("<tr") if "most frequent answer" in line)
    assert row.startswith(' class="muted"')
