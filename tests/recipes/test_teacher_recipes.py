"""Teachers of kind `recipe`: trained first, by the same command, and then teachers like any other."""

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from meddistill.cli import main
from meddistill.errors import ConfigError, LicenceError
from meddistill.features.reader import FeatureStore
from meddistill.progress import Advance
from meddistill.recipes.check import check_recipe
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import run_recipe
from meddistill.recipes.run_folder import RunFolder
from meddistill.students.metadata import read_metadata
from recipe_data import LIGHT, Diary, do_run, hashes, recipe, write_yaml
from tiny_teachers import save_timm
from two_processes import command_in_two

LARGE = {"kind": "recipe", "recipe": "teacher.yaml", "set": {"stages.0.seed": 3}}


def _teacher(**changed: Any) -> dict[str, Any]:
    """The recipe of a teacher: a little CLIP, and what its student inherits."""
    stage = {**recipe()["stages"][0], "epochs": 2}
    content = {key: recipe()[key] for key in ("data", "student", "licence_policy")}
    content["data"] = {**content["data"], "licences": {"phantom": "MIT"}}
    return {"name": "teacher", **content, "stages": [stage], "smoke": {"stages.0.epochs": 1}, **changed}


def _outer(**changed: Any) -> dict[str, Any]:
    teachers = {"general": recipe()["teachers"]["general"], "large": dict(LARGE)}
    return {**recipe(), "teachers": teachers, "evaluate": None, "bundle": None, **changed}


@pytest.fixture
def world(own_world: Path) -> Path:
    """The recipe of a copy of the small world in which one teacher is trained first."""
    write_yaml(own_world.parent / "teacher.yaml", _teacher())
    return write_yaml(own_world, _outer())


@pytest.fixture(scope="module")
def done_once(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Diary]:
    """The folder of a run that nothing interrupted, and what it told."""
    place = tmp_path_factory.mktemp("once")
    for name in ("data", "teachers"):
        (place / name).symlink_to(small_world.parent / name)
    write_yaml(place / "teacher.yaml", _teacher())
    diary = do_run(write_yaml(place / "recipe.yaml", _outer()), place / "out", until="train")
    return place / "out", diary


@pytest.fixture
def done(done_once: tuple[Path, Diary], tmp_path: Path) -> Path:
    """A copy of that run, for `world` to go on with."""
    shutil.copytree(done_once[0], tmp_path / "out")
    return tmp_path / "out"


def _mistakes(path: Path, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_recipe(load_recipe(path, **options), subject=path.name, out=path.parent / "out")
    assert not (path.parent / "out").exists()
    return list(caught.value.mistakes)


def test_it_is_the_teacher_that_its_recipe_trains_alone(
    world: Path, done: Path, done_once: tuple[Path, Diary], tmp_path: Path
) -> None:
    """And then one as if it had been named by its folder; done once, it is done."""
    out, diary = done, done_once[1]
    do_run(world.parent / "teacher.yaml", tmp_path / "alone", "stages.0.seed=3", until="train")
    mine, alone = hashes(out / "teachers" / "large"), hashes(tmp_path / "alone")
    weights = "student/open_clip_model.safetensors"
    assert mine[weights] == alone[weights]

    named = {"kind": "open_clip", "model": f"local-dir:{tmp_path / 'alone' / 'student'}", "licence": "MIT"}
    content = _outer(teachers={**_outer()["teachers"], "large": named})
    do_run(write_yaml(world.parent / "named.yaml", content), tmp_path / "named", until="train")
    assert hashes(out)[weights] == hashes(tmp_path / "named")[weights]

    assert "large: Training pretrain" in diary.opened
    assert diary.opened.index("large: Training pretrain") < diary.opened.index("Training pretrain")
    (credit,) = [each for each in read_metadata(out / "student").provenance.teachers if each.id == "large"]
    assert (credit.licence.name, credit.pretraining_data) == ("MIT", ("phantom",))

    before = hashes(out)
    again = do_run(world, out, until="train")
    assert hashes(out) == before
    assert {"large: stage pretrain: done already", "features: done already"} <= set(again.said)


def test_a_changed_recipe_trains_the_teacher_and_all_after_it_anew(world: Path, done: Path) -> None:
    out, before = done, hashes(done)
    changed = {**LARGE, "set": {"stages.0.seed": 4}}
    write_yaml(world, _outer(teachers={**_outer()["teachers"], "large": changed}))
    diary = do_run(world, out, until="train")
    said = "\n".join(diary.said)
    assert re.search(r"^large: stage pretrain: trained anew, .*seed \(3 → 4\)", said, re.MULTILINE)
    assert "features: those of large are dropped, since it was trained anew" in said
    assert re.search(r"^stage distill: trained anew, .*teachers\.large\.fingerprint", said, re.MULTILINE)
    after = hashes(out)
    kept = [
        name for name in before if name.startswith(("features/teachers/general/image", "stages/pretrain/s"))
    ]
    assert kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    for name in ("student/open_clip_model.safetensors", "teachers/large/student/open_clip_model.safetensors"):
        assert after[name] != before[name]
    store = FeatureStore.open(out / "features")
    assert store.card("large").weights_sha256 == after["teachers/large/student/open_clip_model.safetensors"]


class _Stopped(Exception):
    """What ends a run in its middle."""


class _Stopping(Diary):
    """Progress that ends the run when a task has come so far."""

    def __init__(self, label: str, units: int) -> None:
        super().__init__()
        self._label, self._left = label, units

    @contextmanager
    def track(self, label: str, *_: Any, **__: Any) -> Iterator[Advance]:
        def advance(units: int) -> None:
            self._left -= units if label == self._label else 0
            if self._left <= 0:
                raise _Stopped

        yield advance


@pytest.mark.parametrize(("label", "units"), [("large: Training pretrain", 80), ("Training distill", 40)])
def test_a_run_that_broke_off_goes_on(
    world: Path, tmp_path: Path, label: str, units: int, done_once: tuple[Path, Diary]
) -> None:
    loaded = load_recipe(world)
    with pytest.raises(_Stopped):
        run_recipe(loaded, tmp_path / "out", until="train", progress=_Stopping(label, units))
    do_run(world, tmp_path / "out", until="train")
    found, expected = hashes(tmp_path / "out"), hashes(done_once[0])
    for name in ("student/open_clip_model.safetensors", "teachers/large/student/open_clip_model.safetensors"):
        assert found[name] == expected[name]


def test_all_processes_train_it(world: Path, tmp_path: Path) -> None:
    """Sums run in another order, and twelve steps of Adam carry that along."""
    vit = {"open_clip": "vit.json"}  # without batch statistics
    write_yaml(world.parent / "teacher.yaml", _teacher(student=vit))
    stage = {**recipe()["stages"][1], "objectives": {"feature_mse": 1.0}}
    write_yaml(world, _outer(teachers={"large": LARGE}, student=vit, stages=[stage]))
    for code, _, told in command_in_two("train", str(world), "--out", str(tmp_path / "two")):
        assert code == 0, told
    do_run(world, tmp_path / "one", until="train")
    weights = "teachers/large/student/open_clip_model.safetensors"
    expected = load_file(tmp_path / "one" / weights)
    torch.testing.assert_close(load_file(tmp_path / "two" / weights), expected, rtol=0, atol=2e-4)
    assert (tmp_path / "two" / "student" / "meddistill.json").is_file()


def test_it_is_evaluated_like_any_other(world: Path, done: Path) -> None:
    write_yaml(world, _outer(evaluate={"suite": "suite.yaml"}, bundle={"formats": ["open_clip"]}))
    diary = do_run(world, done, LIGHT)
    assert not [label for label in diary.opened if "Training" in label]
    assert '"large"' in (done / "evaluation" / "results.json").read_text()
    assert (done / "report.html").is_file()


def test_check_knows_it_before_it_is_trained(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(world), "--out", str(world.parent / "out")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"large +│ open_clip +│ student +│ 32x32 +│ 16 / 16 .*│ MIT", out)
    assert re.search(r"Before it, the recipes of large are run: \d+ s\.", out)
    assert not (world.parent / "out").exists()


def test_all_mistakes_of_its_recipe_are_told_at_once_with_its_name(world: Path) -> None:
    content = _teacher(student={"image_tower": "test_resnett", "image_size": 32})
    content["data"]["train"] = {**content["data"]["train"], "text": "caption"}
    write_yaml(world.parent / "teacher.yaml", content)
    write_yaml(world, _outer(student={"image_tower": "absent", "image_size": 32}))
    lines = _mistakes(world)
    for pattern in (
        r"teacher `large`: .*`text` must name a column; got `caption`",
        r"teacher `large`: .*test_resnett",
        r"^student: .*absent",
    ):
        assert [line for line in lines if re.search(pattern, line)], (pattern, lines)


def test_mistakes_of_both_schemas_hide_no_others(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = _teacher(student={"image_tower": "test_resnett", "image_size": 32}, licence_polcy="any")
    write_yaml(world.parent / "teacher.yaml", content)
    write_yaml(world, _outer(featurs={}))
    assert main(["check", str(world)]) == 2
    told = capsys.readouterr().err
    assert "teacher `large`: `licence_polcy` must be a known key" in told
    assert re.search(r"teacher `large`: .*test_resnett", told)
    assert "`featurs` must be a known key" in told


def test_what_the_stages_ask_of_it_is_known_before_it_is_trained(world: Path, tmp_path: Path) -> None:
    """A teacher whose text tower nothing trains has no texts, whatever its architecture."""
    save_timm(world.parent / "teachers" / "encoder", "test_vit")
    teacher = {"kind": "timm", "model": "local-dir:teachers/encoder", "licence": "MIT"}
    content = _teacher(teachers={"encoder": teacher})
    del content["data"]["train"]["text"]
    stage = {**recipe()["stages"][1], "objectives": {"feature_mse": 1.0}, "selection": {"kind": "available"}}
    write_yaml(world.parent / "teacher.yaml", {**content, "stages": [stage]})
    asked = r"stage distill: teacher `large` must have .* for the objective interactive_contrastive"
    assert [line for line in _mistakes(world) if re.search(asked, line)], _mistakes(world)
    with pytest.raises(ConfigError, match=asked):
        do_run(world, tmp_path / "out", until="train")
    assert not (tmp_path / "out" / "teachers").exists()


@pytest.mark.parametrize("through", ["recipe.yaml", "teacher.yaml"])
def test_a_circle_is_refused(world: Path, through: str) -> None:
    circle = {"large": {"kind": "recipe", "recipe": "recipe.yaml"}}
    chain = "recipe.yaml → recipe.yaml"
    if through == "teacher.yaml":
        stages = recipe()["stages"]
        write_yaml(world.parent / "teacher.yaml", _teacher(teachers=circle, stages=stages))
        chain = "recipe.yaml → teacher.yaml → recipe.yaml"
    else:
        write_yaml(world, _outer(teachers=circle))
    with pytest.raises(ConfigError, match=rf"teacher `large`: .*must not lead back .*; got {chain}\."):
        load_recipe(world)


def test_values_are_set_before_the_smoke_dial_turns(world: Path) -> None:
    """A recipe sets what its teacher is; in small it is as small as its own recipe says."""
    large = {**LARGE, "set": {"name": "ours", "stages.0.epochs": 5, "stages.0.batch_size": 8}}
    write_yaml(world, _outer(teachers={"large": large}, smoke={"stages.0.epochs": 1}))
    whole = load_recipe(world).teachers["large"].recipe
    small = load_recipe(world, smoke=True).teachers["large"].recipe
    assert (whole.name, whole.stages[0].epochs) == ("ours", 5)
    assert (small.stages[0].epochs, small.stages[0].batch_size) == (1, 8)


def test_a_value_without_a_place_is_a_mistake(world: Path) -> None:
    write_yaml(world, _outer(teachers={"large": {**LARGE, "set": {"stages.7.epochs": 5}}}))
    with pytest.raises(ConfigError, match=r"teacher `large`: `stages\.7\.epochs` must name a place"):
        load_recipe(world)


@pytest.mark.parametrize(("theirs", "ours"), [("any", "permissive"), ("permissive", "any")])
def test_the_licence_policy_of_both_holds(world: Path, tmp_path: Path, theirs: str, ours: str) -> None:
    content = _teacher(licence_policy=theirs)
    content["data"]["licences"] = {"our archive": "unknown"}
    write_yaml(world.parent / "teacher.yaml", content)
    write_yaml(world, _outer(licence_policy=ours))
    prefix = "large: " if ours == "permissive" else ""
    refused = rf"{prefix}our archive \(unknown\)"
    with pytest.raises(LicenceError, match=refused):
        do_run(world, tmp_path / "out", until="train")
    assert [line for line in _mistakes(world) if re.search(refused, line)]


def test_a_second_extraction_waits_for_the_one_that_trains(world: Path, done: Path) -> None:
    holding, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with RunFolder(RunFolder(done).teacher("large")).locked():
            holding.set()
            leave.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert holding.wait(60)
    threading.Timer(1.0, leave.set).start()
    started = time.monotonic()
    do_run(world, done, until="features")
    assert time.monotonic() - started >= 1.0
    other.join()
