"""Runs that learn from images without captions, all of them or some."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import recipe_data
from meddistill.cli import main
from meddistill.data.table import read_table
from meddistill.errors import BundleError
from meddistill.evaluation.base.results import MEAN_TASK, Results
from meddistill.features.reader import FeatureStore
from meddistill.recipes.load import load_recipe
from meddistill.recipes.requirements import without_captions
from meddistill.recipes.schema import EmbeddingStage
from meddistill.recipes.text_tower import text_is_trained
from meddistill.runtime import Bundle
from meddistill.runtime.embed import Embedder
from meddistill.students.build import build_student, start_student
from meddistill.students.folder import load_student, read_metadata
from recipe_data import do_run, write_yaml
from tiny_teachers import save_timm
from toy_features import ToyImages, toy_teacher

FEATURES = {"feature_mse": 50.0, "cosine_smooth_l1": 1.0}


def _recipe(world: Path, *, text: str | None = None, **stage: Any) -> dict[str, Any]:
    """One stage against an image-only teacher."""
    save_timm(world.parent / "teachers" / "eye")
    content = recipe_data.recipe()
    content["data"]["train"] |= {"text": text}
    content["teachers"] = {"eye": {"kind": "timm", "model": "local-dir:teachers/eye", "licence": "MIT"}}
    content["stages"] = [
        {**content["stages"][1], "epochs": 1, "objectives": FEATURES, "selection": {"kind": "available"}}
        | stage
    ]
    return content


def _blank(world: Path, *, every: int) -> None:
    """Take the caption from every `every`-th row of the pairs, training and test rows alike."""
    path = world.parent / "data" / "pairs.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        if row["split"] == "train" and number % every == 0:
            row["text"] = " "
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> tuple[Path, Path]:
    """A whole run on a table without captions, with weight decay: the recipe and the run's folder."""
    folder = tmp_path_factory.mktemp("alone")
    shutil.copytree(small_world.parent, folder / "world")
    recipe = folder / "world" / small_world.name
    content = _recipe(recipe, weight_decay=0.1, projection={"kind": "pca", "dim": 8})
    do_run(write_yaml(recipe, content), folder / "run")
    return recipe, folder / "run"


def test_the_image_tower_learns_and_the_text_tower_stays_as_it_was(alone: tuple[Path, Path]) -> None:
    recipe, run = alone
    loaded = load_recipe(recipe)
    first = build_student(loaded.recipe.student, base=loaded.base, seed=loaded.recipe.stages[0].seed)
    before, after = first.state_dict(), load_student(run / "student").state_dict()
    of_text = [name for name in before if name.startswith("model.text.")]
    assert of_text
    assert all(after[name].equal(before[name]) for name in of_text)
    assert any(not after[name].equal(before[name]) for name in before if name.startswith("model.visual."))


def test_the_store_holds_images_alone(alone: tuple[Path, Path]) -> None:
    store = FeatureStore.open(alone[1] / "features")
    assert store.manifest.rows("images") > 0
    assert store.manifest.rows("texts") == store.manifest.rows("pairs") == 0


def test_tasks_that_need_text_are_not_judged(alone: tuple[Path, Path]) -> None:
    found = Results.load(alone[1] / "evaluation")
    for task in ("modality", "retrieval", MEAN_TASK):
        row = found.main("student", task)
        assert row is not None
        assert row.value is None
        assert "no trained text tower" in row.note
    for task in ("probe", "neighbours"):
        row = found.main("student", task)
        assert row is not None
        assert row.value is not None
    page = (alone[1] / "report.html").read_text()
    assert "text tower starts from no weights and no stage trains it" in page
    assert not read_metadata(alone[1] / "student").provenance.text_trained


def test_the_bundle_embeds_images_alone(alone: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, run = alone
    bundle = Bundle.open(run / "bundle")
    bundle.verify()
    assert not list((run / "bundle").glob("prompts/*"))
    assert "its text tower is untrained" in (run / "bundle" / "README.md").read_text()
    with pytest.raises(BundleError, match="must have a text tower that was trained"):
        Embedder(bundle).embed_texts(["a chest radiograph"])
    assert Embedder(bundle).embed_texts([]).shape == (0, bundle.manifest.embed_dim)
    suite = recipe.parent / "suite.yaml"
    words = [str(run), f"shipped={run / 'bundle'}", "--suite", str(suite), "--out", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--quiet"]) == 0
    found = Results.load(tmp_path / "out")
    assert [model.has_text for model in found.models] == [False, False]
    for model in (run.name, "shipped"):
        assert "no trained text tower" in found.main(model, "retrieval").note
        assert found.main(model, "probe").value is not None


def test_check_says_what_has_no_caption(
    own_world: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["check", str(write_yaml(own_world, _recipe(own_world)))]) == 0
    out = capsys.readouterr().out
    assert "82 of 82 rows have no caption" in out
    assert "text tower starts from no weights and no stage trains it" in out


@pytest.mark.parametrize(
    ("start", "trained"),
    [({}, True), ({"init_towers": "image"}, False), (None, False)],
    ids=["both towers", "the image tower", "no weights"],
)
def test_initial_weights_of_the_text_tower_count(
    own_world: Path, start: dict[str, str] | None, trained: bool
) -> None:
    """A CLIP's folder brings them; nothing else does where no row has a caption."""
    content = _recipe(own_world)
    if start is not None:
        content["student"] = {"init": "teachers/radiology", "init_licence": "MIT", **start}
    loaded = load_recipe(write_yaml(own_world, content))
    taken = start_student(loaded.recipe.student, base=loaded.base, seed=0).taken
    samples = read_table(loaded.recipe.data.train, base=loaded.base)
    assert text_is_trained(loaded.recipe, samples, cards={}, taken=taken) is trained


@pytest.mark.parametrize(("weight", "trained"), [(0, False), (1, True)])
def test_a_text_teacher_of_weight_0_trains_no_text_tower(
    own_world: Path, weight: float, trained: bool
) -> None:
    weights = {"kind": "fixed", "weights": {"eye": 1, "general": weight}}
    content = _recipe(own_world, text="text", objectives={"feature_mse": 1.0}, weighting=weights)
    content["teachers"]["general"] = recipe_data.recipe()["teachers"]["general"]
    loaded = load_recipe(write_yaml(own_world, content))
    samples = read_table(loaded.recipe.data.train, base=loaded.base)
    eye = toy_teacher("eye", kind=ToyImages).card
    cards = {"eye": eye, "general": toy_teacher("general").card}
    assert text_is_trained(loaded.recipe, samples, cards=cards, taken=None) is trained


@pytest.mark.parametrize("text", [None, "text"])
def test_a_stage_that_needs_captions_is_refused_without_any(
    own_world: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | None
) -> None:
    """By `check` and by a run before anything is done, whether the column is absent or blank."""
    if text is not None:
        _blank(own_world, every=1)
    content = _recipe(own_world, text=text)
    content["stages"] += [
        {**content["stages"][0], "name": "both", "objectives": {"feature_mse": 1.0, "contrastive": 1.0}},
        {"name": "pretrain", "method": "contrastive", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
    ]
    recipe = write_yaml(own_world, content)
    for verb in ("check", "run"):
        assert main([verb, str(recipe), "--out", str(tmp_path / "out")]) == 2
        err = capsys.readouterr().err
        for part in ("stage both: the objective contrastive", "stage pretrain: the objective contrastive"):
            assert f"{part} must have captions; got 82 rows without any" in err, err
        assert "leave the stage out" in err
        assert "leave the objective contrastive out" in err
        assert "stage distill" not in err
    assert not (tmp_path / "out" / "features").exists()


def test_a_weighting_that_compares_captions_needs_them_too() -> None:
    content = {"name": "distill", "method": "embedding", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3}
    weighting = {"kind": "confidence"}
    stage = EmbeddingStage.model_validate({**content, "objectives": FEATURES, "weighting": weighting})
    (line,) = without_captions(stage, captions=0, rows=5773)
    assert "weighting confidence must have captions; got 5,773 rows without any" in line
    assert without_captions(stage, captions=1, rows=5773) == []


def test_the_remedies_work(own_world: Path, tmp_path: Path) -> None:
    content = _recipe(own_world, text="text")
    content["stages"].append(
        {"name": "pretrain", "method": "contrastive", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3}
    )
    assert main(["check", str(write_yaml(own_world, content)), "--out", str(tmp_path / "out")]) == 0


def test_rows_without_a_caption_sit_out_of_a_contrastive_stage_alone(own_world: Path, tmp_path: Path) -> None:
    """A table of which every third row has none, and teachers with and without text."""
    _blank(own_world, every=3)
    content = _recipe(own_world, text="text", epochs=1)
    content["teachers"] = {**recipe_data.recipe()["teachers"], **content["teachers"]}
    pretrain = {**recipe_data.recipe()["stages"][0], "epochs": 1}
    content["stages"] = [pretrain, content["stages"][0] | {"objectives": {"contrastive": 1.0, **FEATURES}}]
    content |= {"evaluate": None, "bundle": None}
    diary = do_run(write_yaml(own_world, content), tmp_path / "out")
    steps = json.loads((tmp_path / "out" / "steps.json").read_text())
    captions = FeatureStore.open(tmp_path / "out" / "features").manifest.rows("pairs")
    assert steps["stage pretrain"]["facts"]["rows"] == captions < 82
    assert steps["stage distill"]["facts"]["rows"] == 82
    (line,) = [line for line in diary.said if "no caption" in line]
    without = f"{82 - captions} of 82 rows have no caption"
    assert line == f"training table: {without}; they are left out of pretrain"
    assert read_metadata(tmp_path / "out" / "student").provenance.text_trained
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{82 - captions} of 82 rows have no part, without a caption" in page


def test_teachers_are_asked_online_too(own_world: Path, tmp_path: Path) -> None:
    """What each is given stands in the tests of the sources; here a whole stage goes through."""
    _blank(own_world, every=3)
    content = _recipe(own_world, text="text", log_every=1)
    del content["stages"][0]["objectives"]  # the default, less the statistics that online teachers lack
    content["teachers"]["general"] = recipe_data.recipe()["teachers"]["general"]
    diary = do_run(write_yaml(own_world, content), tmp_path / "out", "features.source=online", until="train")
    told = [line for line in diary.said if "compares vectors of unit length" in line]
    assert [line.partition(":")[0] for line in told] == ["stage distill"]
    lines = (tmp_path / "out" / "stages" / "distill" / "log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["loss/contrastive"] > 0 for line in lines)
    assert read_metadata(tmp_path / "out" / "student").provenance.text_trained
