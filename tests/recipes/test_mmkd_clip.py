"""The recipe of MMKD-CLIP: right without its weights, which it lists, and complete in small."""

import re
from pathlib import Path

import pytest
import yaml

from meddistill.cli import main
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.evaluation.base.results import Results
from meddistill.recipes.load import PACKAGED, load_recipe, located
from meddistill.recipes.pipeline import run_recipe
from meddistill.students.metadata import read_metadata
from meddistill.teachers.catalogue import catalogue
from recipe_data import LIGHT, MODALITIES, Diary, suite, write_yaml
from tiny_state_dicts import save_medclip, save_pmc_clip
from tiny_teachers import save_clip, save_open_clip, save_open_clip_with_bert

RECIPE = PACKAGED / "mmkd_clip.yaml"
PUBLISHED = [
    line for line in RECIPE.read_text().splitlines() if line.startswith("#") and "--set" in line
]  # the header's own lines
NINE = {key for key, entry in catalogue().items() if "mmkd_clip" in entry.systems}
FEW_ROWS = ("--set", "stages.0.batch_size=16", "--set", "stages.1.batch_size=16")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with pairs and the suite's tables, and no weights."""
    generate(tmp_path / "data", PhantomConfig(samples=80, size=32, modalities=MODALITIES))
    picture = next((tmp_path / "data" / "images").iterdir()).name
    rows = [f"images/{picture},lung,{label}" for label in ("lung_aca", "lung_n", "lung_scc")]
    rows += [f"images/{picture},colon,{label}" for label in ("colon_aca", "colon_n")]
    (tmp_path / "data" / "lc25000.csv").write_text("\n".join(["image,organ,label", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_it_checks_clean_without_weights_and_says_how_to_get_each(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "mmkd_clip", *FEW_ROWS]) == 0
    out = capsys.readouterr().out
    assert re.search(r"The recipe is in order: \d+ rows, 9 teachers\.", out)
    assert "Not there yet: 11 sets of weights" in out
    for key in NINE:
        assert f"`teachers.{key}.model`: {catalogue()[key].name} is missing" in out
        assert catalogue()[key].how_to_get(f"teachers/{key}") in out
    assert "hf download timm/vit_base_patch16_clip_224.metaclip_400m --local-dir weights/metaclip_b16" in out
    assert "`student.text.hf`: BiomedBERT (abstracts) is missing; nothing is at ./weights/biomedbert" in out
    assert "The student would inherit: CC-BY-NC-4.0 AND MIT AND unknown (policy any)." in out


def test_a_run_without_weights_is_refused_with_the_same_list(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "mmkd_clip", "--out", "out", *FEW_ROWS]) == 2
    refused = capsys.readouterr().err
    assert "Traceback" not in refused
    assert main(["check", "mmkd_clip", *FEW_ROWS]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " is missing; " in line]
    assert len(lines) == 11
    for line in lines:
        assert line in refused
    assert not (place / "out" / "features").exists()


def test_other_mistakes_are_told_with_what_is_missing(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "mmkd_clip", *FEW_ROWS, "--set", "licence_policy=research"]) == 2
    refused = capsys.readouterr().err
    for name in ("bmc_clip", "plip", "medclip", "BIOMEDICA"):
        assert f"{name} (unknown)" in refused
    assert "unimed_clip (CC" not in refused
    assert "PMC-CLIP is missing" in refused


def test_weights_that_nobody_knows_are_a_mistake(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = "teachers.ours={kind: open_clip, model: 'local-dir:teachers/ours', licence: own}"
    assert main(["check", "mmkd_clip", *FEW_ROWS, "--set", unknown]) == 2
    assert "teacher 'ours': `model` must be an existing folder or a hub id" in capsys.readouterr().err


def test_it_says_of_its_teachers_what_the_catalogue_says() -> None:
    recipe = load_recipe(Path("mmkd_clip")).recipe
    assert set(recipe.teachers) == NINE
    for name, config in recipe.teachers.items():
        known = catalogue()[name].config
        assert (config.kind, config.terms) == (known.kind, known.terms), name
        assert config.pretraining_data == known.pretraining_data, name
    assert located(Path("mmkd_clip.yaml")) == (Path("mmkd_clip.yaml"), Path().resolve())


def test_the_published_variant_of_its_header_parses() -> None:
    given = re.findall(r"--set (\S+)", " ".join(PUBLISHED))
    assert len(given) == 6
    stages = load_recipe(Path("mmkd_clip"), overrides=given).recipe.stages
    objectives = stages[1].objectives
    assert objectives.interactive_contrastive.as_published
    assert not objectives.feature_mse.normalize_targets
    assert objectives.feature_mse.weight == 50
    assert stages[0].objectives.contrastive.as_published
    assert stages[1].projection.kind == "linear_autoencoder"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder that the smoke dial expects: phantom pairs, a suite, nine small teachers."""
    generate(tmp_path / "data", PhantomConfig(samples=120, size=32, modalities=MODALITIES))
    judged = suite()
    judged["tasks"][0]["dataset"] = "MIMIC CXR"
    write_yaml(tmp_path / "suite.yaml", judged)
    teachers = tmp_path / "teachers"
    for seed, name in enumerate(("bmc_clip", "quiltnet", "genmedclip")):
        save_open_clip(teachers / name, seed=seed)
    for name in ("biomedclip", "unimed_clip"):
        save_open_clip_with_bert(teachers / name)
    for name in ("pubmedclip", "plip"):
        save_clip(teachers / name)
    save_pmc_clip(teachers / "pmc_clip")
    save_medclip(teachers / "medclip")
    return tmp_path


def test_it_runs_whole_in_small(small: Path) -> None:
    shorter = [f"teachers.{name}.context_length=20" for name in ("pmc_clip", "medclip")]
    loaded = load_recipe(RECIPE, overrides=[*shorter, LIGHT], smoke=True, base=small)
    run_recipe(loaded, small / "out", until="report", progress=Diary())
    results = Results.load(small / "out" / "evaluation")
    assert set(results.named("teacher")) == NINE
    assert results.seen("unimed_clip", "modality") == ("MIMIC CXR",)
    assert results.seen("student", "modality") == ("MIMIC CXR",)
    assert results.seen("quiltnet", "modality") == ()
    report = (small / "out" / "report.html").read_text()
    assert 'title="pretrained on MIMIC CXR"' in report
    provenance = read_metadata(small / "out" / "student").provenance
    assert {credit.id for credit in provenance.teachers} == NINE
    resolved = yaml.safe_load((small / "out" / "recipe.yaml").read_text())
    assert resolved["features"]["availability"]["agreement_quantile"] == 0.27
    assert "CC-BY-NC-4.0" in {path.stem for path in (small / "out" / "bundle" / "LICENSES").iterdir()}
