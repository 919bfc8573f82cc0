"""Several runs of one suite: means and spreads by hand, rank correlations by pandas."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from meddistill.cli import main
from meddistill.cli.compare_tables import print_stability
from meddistill.errors import ConfigError
from meddistill.evaluation.base.records import Place
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, ModelFacts, Result, Results, TaskFacts
from meddistill.evaluation.statistics.stability import stability

MODELS = ("student", "radiology", "skin", TEACHER_MEAN)


def _run(values: dict[str, float], *, suite: str = "0" * 64, asked: str = "0" * 64) -> Results:
    """Results whose scores on `findings` are these."""
    rows = [_row(model, "findings", value) for model, value in values.items()]
    rows += [_row(model, "retrieval", None if model == "skin" else 0.3) for model in values]
    rows += [_row(model, MEAN_TASK, None if model == "skin" else 0.4) for model in values]
    task = {"family": "knn", "main_metric": "accuracy", "n": 4, "patients": 4, "modalities": {}}
    prints = {name: name for name in MODELS} | {"student": str(values)}
    return Results(
        suite="tiny",
        suite_sha256=suite,
        resamples=100,
        seed=0,
        level=0.95,
        rule="none",
        versions={},
        models=tuple(
            ModelFacts(name=name, role="teacher", fingerprint=prints[name], has_text=True) for name in MODELS
        ),
        tasks=tuple(
            TaskFacts(name=name, include_in_mean=True, sha256=asked, **task)
            for name in ("findings", "retrieval")
        ),
        results=tuple(rows),
        places=(Place(model="student", task="findings", first=values["student"], rank=1.0, models=4),),
    )


def _row(model: str, task: str, value: float | None) -> Result:
    known = {"role": "teacher", "family": "knn", "metric": "accuracy", "seed": 0, "library": "ours"}
    return Result(model=model, task=task, value=value, main=True, **known)


def _values(*numbers: float) -> dict[str, float]:
    return dict(zip(MODELS, numbers, strict=True))


RUNS = {
    "a": _run(_values(0.8, 0.7, 0.2, 0.75)),
    "b": _run(_values(0.6, 0.7, 0.2, 0.75)),
    "c": _run(_values(0.7, 0.7, 0.2, 0.75)),
}


def test_mean_and_spread_over_runs() -> None:
    rows = {(row.model, row.task): row for row in stability(RUNS).spreads}
    row = rows["student", "findings"]
    assert (row.mean, row.sd, row.runs) == (pytest.approx(0.7), pytest.approx(0.1), 3)
    assert (row.lowest, row.highest, row.first) == (0.6, 0.8, pytest.approx(0.7))
    assert rows["radiology", "findings"].sd == pytest.approx(0)
    assert rows["radiology", "findings"].first is None
    assert ("skin", "retrieval") not in rows
    assert ("student", MEAN_TASK) in rows


def test_shares_of_runs_count_ties_half() -> None:
    shares = {(row.model, row.other): row.share for row in stability(RUNS).beaten if row.task == "findings"}
    assert shares["student", "radiology"] == 0.5
    assert shares["student", "skin"] == 1
    assert shares["student", TEACHER_MEAN] == pytest.approx(1 / 3)
    assert all(shares[a, b] + shares[b, a] == pytest.approx(1) for a, b in shares)


@pytest.mark.parametrize("method", ["kendall", "spearman"])
def test_rank_correlations_are_those_of_pandas(method: str) -> None:
    found = next(row for row in stability(RUNS).agreement if row.task == "findings")
    values = {name: [run.main(model, "findings").value for model in MODELS] for name, run in RUNS.items()}
    matrix = pd.DataFrame(values).corr(method=method).to_numpy()
    expected = matrix[np.triu_indices(3, 1)]
    assert getattr(found, method) == pytest.approx(expected.mean())
    assert getattr(found, f"min_{method}") == pytest.approx(expected.min())
    assert (found.models, found.pairs) == (4, 3)


def test_equal_models_and_too_few_have_no_order() -> None:
    level = {"a": _run(_values(0.5, 0.5, 0.5, 0.5)), "b": RUNS["b"]}
    found = {row.task: row for row in stability(level).agreement}
    assert found["findings"].kendall is None
    two = {name: run.model_copy(update={"models": run.models[:2]}) for name, run in list(RUNS.items())[:2]}
    assert {row.kendall for row in stability(two).agreement} == {None}


def test_models_of_some_runs_are_left_out() -> None:
    rows = tuple(row for row in RUNS["b"].results if row.model != "skin")
    found = stability({"a": RUNS["a"], "b": RUNS["b"].model_copy(update={"results": rows})})
    assert "skin" not in {row.model for row in found.spreads}


def test_scores_on_data_of_the_pretraining_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for run in (RUNS["a"], RUNS["b"]):
        tasks = [each.model_copy(update={"datasets": ("rsna",)}) for each in run.tasks[:1]]
        models = [
            each.model_copy(update={"pretraining_data": ("rsna",)}) if each.name == "skin" else each
            for each in run.models
        ]
        more = {"tasks": (*tasks, *run.tasks[1:]), "models": tuple(models)}
        seen.append(run.model_copy(update=more))
    found = stability({"a": seen[0], "b": seen[1]})
    assert {(row.model, row.task) for row in found.spreads if row.seen} == {("skin", "findings")}
    print_stability(found)
    assert "† pretrained on images of that data set" in capsys.readouterr().out


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="two at least; got 1"):
        stability({"a": RUNS["a"]})
    with pytest.raises(ConfigError, match=r"of one suite.*a, b differ"):
        stability({"a": RUNS["a"], "b": _run(_values(1, 1, 1, 1), suite="1" * 64)})
    with pytest.raises(ConfigError, match=r"same rows and images; those of a and b differ in findings, ret"):
        stability({"a": RUNS["a"], "b": _run(_values(1, 1, 1, 1), asked="1" * 64)})
    with pytest.raises(ConfigError, match=r"different runs; a and again have the same models"):
        stability({"a": RUNS["a"], "b": RUNS["b"], "again": RUNS["a"]})
    with pytest.raises(ConfigError, match="in common"):
        stability({"a": RUNS["a"], "b": RUNS["b"].model_copy(update={"results": ()})})


def test_the_verb_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [RUNS["a"].save(tmp_path / "a"), RUNS["b"].save(tmp_path / "b" / "evaluation").parents[1]]
    places.append(RUNS["c"].save(tmp_path / "c").parent)
    assert main(["compare", *map(str, places), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "0.700 ± 0.100" in said
    assert "(70%)" in said
    assert "Share of runs in which student is better" in said
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert len(content["runs"]) == 3
    table = pd.read_csv(tmp_path / "out" / "compare_scores.csv").set_index(["model", "task"])
    assert table.loc[("student", "findings"), "sd"] == pytest.approx(0.1)
    agreement = pd.read_csv(tmp_path / "out" / "compare_agreement.csv").set_index("task")
    assert agreement.loc["findings", "kendall"] == pytest.approx(content["agreement"][0]["kendall"])


def test_the_verb_names_what_is_no_results_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = RUNS["a"].save(tmp_path / "a").parent
    assert main(["compare", str(good), str(tmp_path / "nothing")]) == 2
    assert "nothing" in capsys.readouterr().err
    assert main(["compare", str(good)]) == 2
    assert "two at least" in capsys.readouterr().err
