"""The first table: frozen encoders under the student, each line over the tasks that both models have."""

from report_data import report_data, results
from test_report import Page

from meddistill.evaluation.base.records import Comparison
from meddistill.evaluation.base.results import MEAN_TASK, ModelFacts, Results
from meddistill.evaluation.statistics.stability import stability
from meddistill.licences import resolve
from meddistill.report.data import ModelCard
from meddistill.report.headline import headline
from meddistill.report.models import model_styles
from meddistill.report.standing import standing
from meddistill.report.write import render

TALLY = {"wins": 0, "ties": 1, "losses": 0, "raw_wins": 1, "raw_ties": 0, "raw_losses": 0, "seed": 0}


def _against(other: str, *, tasks: int, mine: float, theirs: float, half: float = 0.02) -> Comparison:
    gap = mine - theirs
    return Comparison(
        model="student", other=other, tasks=tasks, mean_difference=gap, mean=mine, other_mean=theirs,
        low=gap - half, high=gap + half, library="ours", **TALLY,
    )  # fmt: skip


def _with_frozen() -> Results:
    """A frozen encoder without text, which scores 0.9 on the one task that it can do."""
    found = results()
    plain = ModelFacts(name="plain", role="frozen", fingerprint="plain", has_text=False)
    known = {row.task: row for row in found.results if row.model == "skin" and row.main}
    rows = [
        row.model_copy(
            update={
                "model": "plain",
                "role": "frozen",
                "value": 0.9 if task == "findings" else None,
                "note": "" if task == "findings" else "not applicable: the model has no text tower",
            }
        )
        for task, row in known.items()
    ]
    comparisons = (
        _against("radiology", tasks=2, mine=0.66, theirs=0.475),
        _against("plain", tasks=1, mine=0.82, theirs=0.9),
    )
    return found.model_copy(
        update={
            "models": (*found.models, plain),
            "results": (*found.results, *rows),
            "comparisons": comparisons,
        }
    )


def test_a_frozen_encoder_stands_directly_under_the_student() -> None:
    found = _with_frozen()
    table = standing(found, model_styles(found))
    assert table is not None
    assert [row.name for row in table.rows] == ["student", "plain", "radiology"]
    student, plain, teacher = table.rows
    assert (student.tasks, student.mean.value) == ("2 of 2", "0.660")
    assert (plain.tasks, plain.mean.value, plain.lead_mean) == ("1 of 2", "0.900", "0.820")
    assert plain.difference is not None
    assert (plain.difference.value, plain.difference.verdict) == ("−0.080", "worse")
    assert plain.note == "without retrieval: no text tower"
    assert (teacher.tasks, teacher.note) == ("2 of 2", "")
    assert table.remark == ""


def test_the_report_shows_it_first_and_in_a_tile() -> None:
    page = render(report_data(results=_with_frozen()))
    assert page.index("On the tasks that both have") < page.index("Every task, main metric")
    assert page.index("On the tasks that both have") < page.index("Mean over 2 tasks")
    shown = headline(report_data(results=_with_frozen()))
    assert shown is not None
    (tile,) = [tile for tile in shown.tiles if "plain" in tile.label]
    assert (tile.value, tile.note) == ("−0.08", "−0.10 to −0.06, over 1 of 2 tasks")


def test_without_a_frozen_encoder_it_says_how_to_name_one() -> None:
    text = Page(render(report_data())).text
    assert "No frozen encoder stands beside the student" in text
    assert "evaluate.baselines" in text
    assert "`" not in text
    assert "No frozen encoder" not in Page(render(report_data(results=_with_frozen()))).text


def test_an_entry_as_the_remark_has_it_is_valid() -> None:
    import re

    import yaml

    from meddistill.recipes.schema import EvaluateConfig

    found = results()
    table = standing(found, model_styles(found))
    assert table is not None
    entry = re.search(r"frozen: \{.*\}", table.remark)
    assert entry is not None
    config = EvaluateConfig(suite="suite.yaml", baselines=yaml.safe_load(entry[0]))
    assert config.baselines["frozen"].kind == "timm"


def test_its_terms_are_shown_and_said_not_to_be_inherited() -> None:
    data = report_data(results=_with_frozen())
    card = ModelCard(name="plain", role="frozen", licence=resolve("CC-BY-NC-ND-4.0"))
    text = Page(render(report_data(results=data.results, models=(*data.models, card)))).text
    assert "CC-BY-NC-ND-4.0" in text
    assert "It inherits nothing from the models that are there for comparison only: plain." in text


def test_the_table_is_left_out_where_no_task_counts() -> None:
    found = results()
    tasks = tuple(task.model_copy(update={"include_in_mean": False}) for task in found.tasks)
    kept = tuple(row for row in found.results if row.task != MEAN_TASK)
    bare = found.model_copy(update={"tasks": tasks, "results": kept})
    assert standing(bare, model_styles(bare)) is None


def test_runs_of_several_seeds_are_compared_with_it() -> None:
    """On the tasks that it can do; it has no mean over all of them."""
    first = _with_frozen()
    models = [
        model.model_copy(update={"fingerprint": "another"}) if model.role == "student" else model
        for model in first.models
    ]
    found = stability({"first": first, "second": first.model_copy(update={"models": tuple(models)})})
    tasks = {row.task: row for row in found.spreads if row.model == "plain"}
    assert tasks.keys() == {"findings"}
    assert (tasks["findings"].mean, tasks["findings"].sd) == (0.9, 0.0)
    (row,) = [row for row in found.beaten if (row.model, row.other) == ("student", "plain")]
    assert (row.task, row.share) == ("findings", 0.0)
