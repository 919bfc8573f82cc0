"""`evaluate` on models by name, without a recipe: whatever form they come in, and all mistakes at once."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from meddistill.cli import main
from meddistill.evaluation.base.results import Results
from meddistill.runtime.embed import Embedder
from meddistill.teachers.frozen import FrozenTeacher
from recipe_data import recipe, write_yaml

Say = Callable[..., tuple[int, str, str]]
Words = Sequence[object]
TASKS = ("modality", "probe", "neighbours", "retrieval")


def _judge(world: Path, out: Path, words: Words, *more: str) -> str:
    """What the verb printed."""
    told = io.StringIO()
    suite = world.parent / "suite.yaml"
    arguments = ["evaluate", *words, "--suite", suite, "--out", out, "--quiet", *more]
    with contextlib.redirect_stdout(told):
        assert main([str(each) for each in arguments]) == 0
    return told.getvalue()


@pytest.fixture(scope="session")
def words(small_world: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Words:
    """One model of every form."""
    teachers = small_world.parent / "teachers"
    general = {**recipe()["teachers"]["general"], "model": str(teachers / "general")}
    listed = tmp_path_factory.mktemp("listed") / "models.yaml"
    return (
        finished_run,
        f"as shipped={finished_run / 'bundle'}",
        f"local-dir:{teachers / 'radiology'}",
        teachers / "microscopy",
        write_yaml(listed, {"teachers": {"general": general}}),
    )


@pytest.fixture(scope="session")
def judged(small_world: Path, words: Words, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of an evaluation of all, and what was printed."""
    out = tmp_path_factory.mktemp("judged") / "all"
    return out, _judge(small_world, out, words)


def test_a_student_has_the_numbers_of_its_run(judged: tuple[Path, str], finished_run: Path) -> None:
    found, known = Results.load(judged[0]), Results.load(finished_run / "evaluation")
    name = finished_run.name
    assert [(model.name, model.role) for model in found.models] == [
        (name, "student"),
        ("as shipped", "baseline"),
        ("radiology", "teacher"),
        ("microscopy", "teacher"),
        ("general", "teacher"),
        ("teacher mean", "ensemble"),
    ]
    for task in TASKS:
        mine, run = found.main(name, task), known.main("student", task)
        assert mine is not None
        assert run is not None
        assert (mine.value, mine.low, mine.high) == (run.value, run.low, run.high)
        shipped = found.main("as shipped", task)
        assert shipped is not None
        assert shipped.value == pytest.approx(mine.value, abs=0.05)
        assert found.difference(name, "radiology", task) is not None
    shown = found.main(name, "modality")
    assert shown is not None
    for word in (
        name, "as shipped", "microscopy", "teacher mean", *TASKS, "results:", "report:", f"[{shown.low:.3f}",
    ):  # fmt: skip
        assert word in judged[1], word


def test_the_report_and_the_dumps_tell_nothing_of_patients(judged: tuple[Path, str]) -> None:
    page = (judged[0] / "report.html").read_text()
    assert "as shipped" in page
    assert "data:image/jpeg" not in page
    assert json.loads((judged[0] / "results.json").read_text())["suite"] == "small-suite"
    assert len(list((judged[0] / "predictions" / "modality").glob("*.parquet"))) == 6


def test_a_second_evaluation_embeds_nothing(
    judged: tuple[Path, str],
    small_world: Path,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "again"
    shutil.copytree(judged[0], out)
    shutil.rmtree(out / "predictions")
    asked: list[str] = []

    def counting(name: str, call: Callable[..., object]) -> Callable[..., object]:
        def counted(model: object, inputs: Sequence[object], **more: object) -> object:
            if len(inputs) > 2:  # loading tries every teacher on one grey image and two texts
                asked.append(name)
            return call(model, inputs, **more)

        return counted

    for where, name in (
        (FrozenTeacher, "image_embeddings"),
        (FrozenTeacher, "text_embeddings"),
        (Embedder, "stream_images"),
        (Embedder, "embed_texts"),
    ):
        monkeypatch.setattr(where, name, counting(name, getattr(where, name)))
    _judge(small_world, out, words)
    assert asked == []
    assert (out / "results.json").read_bytes() == (judged[0] / "results.json").read_bytes()


def test_another_model_can_be_the_one_compared(
    judged: tuple[Path, str], small_world: Path, words: Words, finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(judged[0], tmp_path / "other")
    _judge(small_world, tmp_path / "other", words, "--student", "general")
    found = Results.load(tmp_path / "other")
    assert found.named("student") == ("general",)
    assert found.named("baseline") == (finished_run.name, "as shipped")


def test_examples_are_shown_where_asked_for(small_world: Path, words: Words, tmp_path: Path) -> None:
    _judge(small_world, tmp_path, words[2:3], "--examples")
    assert "data:image/jpeg" in (tmp_path / "report.html").read_text()


def test_every_mistake_at_once(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suite = write_yaml(tmp_path / "suite.yaml", {"name": "s", "tables": {}, "tasks": []})
    (tmp_path / "empty").mkdir()
    code, _, err = say("evaluate", tmp_path / "empty", tmp_path / "none", "--suite", suite)
    assert code == 2
    assert "Traceback" not in err
    for word in (f"`{tmp_path / 'empty'}` must be a run", f"`{tmp_path / 'none'}`", "`tables`", "`tasks`"):
        assert word in err, word
    assert not (tmp_path / "evaluations").exists()


def test_what_it_refuses(
    say: Say, small_world: Path, own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = small_world.parent / "suite.yaml"
    teacher = f"local-dir:{small_world.parent / 'teachers' / 'radiology'}"
    for given, message in (
        ((own_run,), "`--suite` must name"),
        ((small_world, "--examples"), "`--examples` must come with `--suite`"),
        ((), "one recipe must be given"),
        ((teacher, teacher, "--suite", suite), "`radiology` must name one model"),
        ((teacher, "--suite", suite, "--student", "x"), "`--student` must be one of radiology"),
        ((teacher, "--suite", suite, "--smoke"), "`--set` and `--smoke` must be left out"),
        (("x=models.yaml", "--suite", suite), "must have no name before it"),
        (("--suite", suite), "a model must be given"),
    ):
        code, _, err = say("evaluate", *given)
        assert code == 2, given
        assert message in err, (message, err)
    assert not (tmp_path / "evaluations").exists()


def test_images_that_a_run_learnt_from_are_not_judged(
    say: Say, small_world: Path, finished_run: Path, tmp_path: Path
) -> None:
    """Whether the run, its student or its bundle is named; a copy elsewhere has no store beside it."""
    base = small_world.parent
    suite = yaml.safe_load((base / "suite.yaml").read_text())
    learnt = yaml.safe_load(small_world.read_text())["data"]["train"]
    tables = {"learnt": learnt}
    task = {"name": "captions", "kind": "retrieval", "table": "learnt"}
    path = write_yaml(base / "learnt.yaml", {"name": suite["name"], "tables": tables, "tasks": [task]})
    elsewhere = shutil.copytree(finished_run / "student", tmp_path / "copy")
    out = ("--suite", path, "--out", tmp_path / "out", "--quiet")
    code, _, err = say("evaluate", finished_run, f"shipped={finished_run / 'bundle'}", elsewhere, *out)
    assert code == 2
    for name in (finished_run.name, "shipped"):
        assert f"`{name}` was trained on those in row" in err, err
    assert "`copy`" not in err
    told = write_yaml(
        base / "told.yaml",
        {"name": "told", "tables": tables, "tasks": [{**task, "train_overlap": "report"}]},
    )
    assert say("evaluate", finished_run, "--suite", told, "--out", tmp_path / "told", "--quiet")[0] == 0
    n = Results.load(tmp_path / "told").tasks[0].n
    assert (
        f"captions: `{finished_run.name}` was trained on {n} of {n} tested images"
        in Results.load(tmp_path / "told").warnings
    )
    assert say("evaluate", elsewhere, *out)[0] == 0


def test_a_damaged_bundle_is_not_judged(say: Say, small_world: Path, own_run: Path) -> None:
    graph = own_run / "bundle" / "onnx" / "image.onnx"
    content = bytearray(graph.read_bytes())
    content[-3] ^= 1
    graph.write_bytes(bytes(content))
    code, _, err = say("evaluate", own_run / "bundle", "--suite", small_world.parent / "suite.yaml")
    assert code == 2
    assert "onnx/image.onnx has another sha256" in err
