"""The recipes of AMMKD: right without weights, which they list, and complete in small with their teachers."""

import shlex
from pathlib import Path

import pytest

from karpathy_copies import flickr30k, mscoco
from meddistill.cli import main
from meddistill.data.known.prepare import prepare
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.evaluation.base.results import Results
from meddistill.recipes.load import PACKAGED, load_recipe
from meddistill.recipes.pipeline import Step, run_recipe
from meddistill.students.metadata import read_metadata
from meddistill.teachers.catalogue import catalogue
from recipe_data import LIGHT, MODALITIES, Diary, suite, write_yaml

TWO = {"clip_l14", "clip_b16"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with both sets as `meddistill datasets prepare` writes them, and no weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sources = Path("data") / "sources"
    flickr30k(sources / "flickr30k", captions=260)  # a batch of the recipe
    mscoco(sources / "mscoco")
    for name in ("flickr30k", "mscoco"):
        prepare(name, sources / name, Path("data") / name)
    return tmp_path


def test_it_checks_clean_without_weights_and_says_how_to_get_each(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "ammkd"]) == 0
    out = capsys.readouterr().out
    assert "The recipe is in order: 520 rows, 2 teachers." in out
    assert "Not there yet: 3 sets of weights" in out
    for teacher, weights in (("clip_l14", "clip_vit_l14"), ("clip_b16", "clip_vit_b16")):
        known = catalogue()[weights]
        assert f"teacher `{teacher}`: `student.init`: {known.name} is missing" in out
        assert known.how_to_get(f"weights/{weights}") in out
    assert "`student.init`: MobileNetV4 medium (ImageNet) is missing" in out
    assert "The student would inherit: Apache-2.0 AND unknown (policy any)." in out


def test_a_run_without_weights_is_refused_with_the_same_list(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "ammkd"]) == 0
    missing = [line for line in capsys.readouterr().out.splitlines() if " is missing; " in line]
    assert main(["run", "ammkd", "--out", "out"]) == 2
    told = capsys.readouterr().err
    assert len(missing) == 3
    for line in missing:
        assert line in told
    assert not (place / "out" / "teachers").exists()


def test_unknown_licences_are_refused_under_other_policies(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "ammkd", "--set", "licence_policy=research"]) == 2
    told = capsys.readouterr().err
    for component in ("clip_l14: Flickr30K", "clip_b16: Flickr30K", "Flickr30K"):
        assert f"{component} (unknown)" in told


def test_the_variant_of_its_header_is_on_mscoco_in_all_places() -> None:
    lines = [
        line.lstrip("# ") for line in (PACKAGED / "ammkd.yaml").read_text().splitlines() if "--set" in line
    ]
    words = shlex.split(" ".join(lines))
    assert words[::2] == ["--set"] * len(words[1::2])
    loaded = load_recipe(Path("ammkd"), overrides=words[1::2])
    assert set(loaded.teachers) == TWO
    for recipe in (loaded.recipe, *(each.recipe for each in loaded.teachers.values())):
        assert str(recipe.data.train.table) == "data/mscoco/mscoco.csv"
        assert str(recipe.data.train.root) == "data/sources/mscoco"
        assert set(recipe.data.licences) == {"MSCOCO"}
    starts = {name: each.recipe.student.init for name, each in loaded.teachers.items()}
    assert starts == {"clip_l14": "weights/clip_vit_l14", "clip_b16": "weights/clip_vit_b16"}


def test_teachers_and_student_of_each_recipe_learn_from_the_same_rows() -> None:
    for name in ("ammkd", "ammkd_biomedical"):
        loaded = load_recipe(Path(name))
        for teacher in loaded.teachers.values():
            assert teacher.recipe.data.train == loaded.recipe.data.train
            assert teacher.recipe.data.licences == loaded.recipe.data.licences


@pytest.mark.parametrize(("name", "until"), [("ammkd", "report"), ("ammkd_biomedical", "train")])
def test_it_runs_in_small(tmp_path: Path, name: str, until: Step) -> None:
    """On what `meddistill demo` draws, without any weights: the teachers are trained first."""
    generate(tmp_path / "data", PhantomConfig(samples=120, size=32, modalities=MODALITIES))
    write_yaml(tmp_path / "suite.yaml", suite())
    loaded = load_recipe(PACKAGED / f"{name}.yaml", overrides=[LIGHT], smoke=True, base=tmp_path)
    seeds = [teacher.recipe.stages[0].seed for teacher in loaded.teachers.values()]
    assert len(set(seeds)) == 2  # else both are the same teacher
    out, diary = tmp_path / "out", Diary()
    run_recipe(loaded, out, until=until, progress=diary)
    teachers = set(loaded.recipe.teachers)
    assert {f"{each}: Training finetune" for each in teachers} <= set(diary.opened)
    assert {each.id for each in read_metadata(out / "student").provenance.teachers} == teachers
    if until == "report":
        assert set(Results.load(out / "evaluation").named("teacher")) == teachers
        assert (out / "report.html").is_file()
