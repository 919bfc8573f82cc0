"""Frozen models beside the student: evaluated as teachers are, and nobody learns from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from meddistill.cli import main
from meddistill.errors import ConfigError, TeacherError
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.recipes.frozen_models import load_baselines
from meddistill.recipes.load import load_recipe
from recipe_data import LIGHT, do_run, hashes, write_yaml
from tiny_teachers import save_bert, save_timm

NEEDS_TEXT = ("modality", "retrieval")
IMAGES_ALONE = ("probe", "neighbours")


def _frozen(world: Path, name: str = "test_vit", licence: str = "CC-BY-NC-ND-4.0") -> dict[str, Any]:
    folder = world.parent / "teachers" / name
    save_timm(folder, name)
    return {"kind": "timm", "model": f"local-dir:teachers/{name}", "licence": licence}


def _with(world: Path, baselines: dict[str, Any]) -> Path:
    content = yaml.safe_load(world.read_text())
    content["evaluate"]["baselines"] = baselines
    return write_yaml(world, content)


def test_a_frozen_encoder_is_evaluated_and_nothing_else_is_done_again(own_world: Path, own_run: Path) -> None:
    """Under the policy `permissive` too: it is only compared, so that its terms bind nobody."""
    known, before = Results.load(own_run / "evaluation"), hashes(own_run)
    last_year = {"kind": "student", "folder": str(own_run / "student")}
    diary = do_run(_with(own_world, {"last_year": last_year, "plain": _frozen(own_world)}), own_run, LIGHT)
    assert [line for line in diary.said if "anew" in line and "evaluate" not in line] == [
        line for line in diary.said if line.startswith(("export: done anew", "report: done anew"))
    ]
    after = hashes(own_run)
    kept = [name for name in before if name.startswith(("features/", "stages/", "student/"))]
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    found = Results.load(own_run / "evaluation")
    roles = [(model.name, model.role) for model in found.models][:3]
    assert roles == [("student", "student"), ("plain", "frozen"), ("last_year", "baseline")]
    for task in NEEDS_TEXT:
        row = found.main("plain", task)
        assert row is not None
        assert (row.value, row.note) == (None, "not applicable: the model has no text tower")
    for task in IMAGES_ALONE:
        row = found.main("plain", task)
        assert row is not None
        assert row.value is not None
        assert found.difference("student", "plain", task) is not None
    for task in (*NEEDS_TEXT, *IMAGES_ALONE, MEAN_TASK):
        for model in ("student", TEACHER_MEAN):  # the teacher mean has no part of it
            assert found.main(model, task) == known.main(model, task)
    (mean,) = [model for model in found.models if model.name == TEACHER_MEAN]
    assert "plain" not in mean.members
    (row,) = [row for row in found.comparisons if row.other == "plain"]
    assert row.tasks == len(IMAGES_ALONE)
    values = [found.main(model, task).value for model in ("student", "plain") for task in IMAGES_ALONE]
    assert row.mean == pytest.approx(sum(values[:2]) / 2)
    assert row.other_mean == pytest.approx(sum(values[2:]) / 2)
    whole = found.difference("student", "general", MEAN_TASK)  # over all tasks it is the paired mean
    (same,) = [each for each in found.comparisons if each.other == "general"]
    assert (same.low, same.high) == (whole.low, whole.high)
    assert same.mean_difference == pytest.approx(whole.value)
    student = json.loads((own_run / "student" / "meddistill.json").read_text())
    assert "CC-BY-NC" not in json.dumps(student)
    assert "CC-BY-NC-ND-4.0" in (own_run / "report.html").read_text()
    assert "CC-BY-NC" not in (own_run / "bundle" / "README.md").read_text()


def test_one_that_can_do_no_task_is_announced(
    own_world: Path, own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baselines = {
        "plain": _frozen(own_world),
        "last_year": {"kind": "student", "folder": str(own_run / "student")},
    }
    recipe = _with(own_world, baselines)
    assert main(["check", str(recipe)]) == 0
    assert "aseline plain" not in capsys.readouterr().out
    suite = own_world.parent / yaml.safe_load(recipe.read_text())["evaluate"]["suite"]
    content = yaml.safe_load(suite.read_text())
    content["tasks"] = [task for task in content["tasks"] if task["name"] in NEEDS_TEXT]
    suite.write_text(yaml.safe_dump(content))
    assert main(["check", str(recipe)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Baseline plain has no text tower" in shown
    assert "linear_probe" in shown
    assert "Baseline last_year" not in shown
    said = do_run(recipe, own_run, until="evaluate").said
    assert (
        [line for line in said if line.startswith("baseline ")]
        == [line for line in said if "plain" in line and "linear_probe" in line]
        != []
    )


def test_a_changed_baseline_is_evaluated_again(own_world: Path, own_run: Path) -> None:
    do_run(_with(own_world, {"plain": _frozen(own_world)}), own_run, until="evaluate")
    again = do_run(own_world, own_run, until="evaluate")
    assert again.said[-1] == "evaluate: done already"
    other = do_run(_with(own_world, {"plain": _frozen(own_world, "test_resnet")}), own_run, until="evaluate")
    assert [line for line in other.said if "anew" in line] == [other.said[-1]]
    assert "evaluate: done anew, since these changed: models.plain" in other.said[-1]


def test_a_students_folder_may_lie_at_home(
    own_world: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(finished_run))
    recipe = load_recipe(_with(own_world, {"last_year": "~/student"})).recipe
    found = load_baselines(recipe.evaluate.baselines, base=own_world.parent)
    assert (found.refusals, list(found.models)) == ([], ["last_year"])


def test_check_shows_the_baselines_apart(own_world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(_with(own_world, {"plain": _frozen(own_world)}))]) == 0
    out = capsys.readouterr().out
    teachers, baselines = out.split("For comparison only")
    assert "plain" in baselines
    assert "plain" not in teachers
    assert "would inherit: MIT" in out or "CC-BY-NC" not in out.split("would inherit")[1].splitlines()[0]


def _all_wrong(world: Path) -> tuple[Path, list[str]]:
    save_bert(world.parent / "teachers" / "words")
    entries = {
        "words": {"kind": "transformers", "model": "teachers/words", "licence": "MIT"},
        "gone": {"kind": "timm", "model": "local-dir:teachers/absent", "licence": "MIT"},
        "nobody": "runs/absent/student",
    }
    return _with(world, entries), [f"`evaluate.baselines.{name}`" for name in entries]


def test_a_run_refuses_all_wrong_baselines_before_it_starts(own_world: Path, tmp_path: Path) -> None:
    recipe, places = _all_wrong(own_world)
    with pytest.raises(TeacherError) as caught:
        do_run(recipe, tmp_path / "out", until="evaluate")
    assert not (tmp_path / "out" / "features").exists()
    for place in places:
        assert place in str(caught.value)


@pytest.mark.parametrize("more", [(), ("--set", "student.presett=nano")])
def test_check_names_every_wrong_baseline(
    own_world: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    recipe, places = _all_wrong(own_world)
    assert main(["check", str(recipe), *more]) == 2
    err = capsys.readouterr().err
    for place in places:
        assert place in err, err


@pytest.mark.parametrize(
    ("baselines", "message"),
    [
        ({"plain": {"kind": "stored", "store": "s"}}, r"`evaluate.baselines.plain.kind` must be one of"),
        (
            {"plain": {"kind": "timm", "model": "local-dir:x", "chekpoint": 1}},
            r"plain\.chekpoint` must be a known",
        ),
        (
            {"general": {"kind": "timm", "model": "local-dir:x"}},
            r"`evaluate.baselines` must have names of their own",
        ),
        ({"student": "runs/other/student"}, r"`evaluate.baselines` must have names of their own"),
    ],
)
def test_what_a_recipe_may_not_name(small_world: Path, baselines: dict[str, Any], message: str) -> None:
    text = json.dumps(baselines)
    with pytest.raises(ConfigError, match=message):
        load_recipe(small_world, overrides=[f"evaluate.baselines={text}"])


def test_a_list_of_models_can_have_baselines(own_world: Path, own_run: Path, tmp_path: Path) -> None:
    frozen = {**_frozen(own_world), "model": f"local-dir:{own_world.parent / 'teachers' / 'test_vit'}"}
    listed = write_yaml(tmp_path / "models.yaml", {"baselines": {"plain": frozen, "old": str(own_run)}})
    out = tmp_path / "judged"
    words = [str(own_run), str(listed), "--suite", str(own_world.parent / "suite.yaml"), "--out", str(out)]
    assert main(["evaluate", *words, "--quiet"]) == 0
    found = Results.load(out)
    assert [model.role for model in found.models] == ["student", "frozen", "baseline"]
    assert "No frozen encoder" not in (out / "report.html").read_text()
