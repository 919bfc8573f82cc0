"""A recipe from its table to its report: what lies in the run folder, and what a second run does."""

import csv
import json
import re
import shutil
import time
from pathlib import Path

import open_clip
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from meddistill.bundle.manifest import is_whole
from meddistill.data import unreadable
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Results
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.features.reader import FeatureStore
from meddistill.features.verify import verify
from meddistill.imaging import ImageRef
from meddistill.recipes.load import load_recipe
from meddistill.runtime import Bundle, classify
from meddistill.students.folder import load_student
from recipe_data import CLASSES, LIGHT, SAMPLES, STAGES, TEACHERS, Diary, digests, do_run, hashes

TASKS = ("modality", "probe", "neighbours", "retrieval")
MODELS = ("student", *TEACHERS, TEACHER_MEAN)


def _work(diary: Diary) -> list[str]:
    """What was done besides looking at tables."""
    return [label for label in diary.opened if not label.startswith("checking")]


@pytest.fixture(scope="module")
def rows(small_world: Path) -> list[dict[str, str]]:
    with (small_world.parent / "data" / "pairs.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def results(finished_run: Path) -> Results:
    return Results.load(finished_run / "evaluation")


def test_the_folder_has_what_the_documents_promise(finished_run: Path) -> None:
    names = {path.name for path in finished_run.iterdir() if not path.name.startswith(".")}
    assert names == {
        "recipe.yaml", "steps.json", "features", "stages", "student", "evaluation", "bundle", "audit.json",
        "report.html", "decoded_images",
    }  # fmt: skip
    assert {path.name for path in (finished_run / "stages").iterdir()} == set(STAGES)
    steps = json.loads((finished_run / "steps.json").read_text())
    assert [*steps] == [
        "features",
        "stage pretrain",
        "stage distill",
        "student",
        "evaluate",
        "export",
        "audit",
        "report",
    ]


def test_no_half_written_file_is_left(finished_run: Path) -> None:
    names = [path.name for path in finished_run.rglob("*")]
    assert [name for name in names if name.endswith((".part", ".partial")) or ".partial" in name] == []
    assert list(finished_run.rglob("checkpoints")) == []


def test_the_resolved_recipe_is_the_recipe(finished_run: Path, small_world: Path) -> None:
    """It has every default written out, and read back from its place it is the same recipe."""
    resolved = yaml.safe_load((finished_run / "recipe.yaml").read_text())
    assert resolved["stages"][1]["clip_norm"] == 1.0
    again = load_recipe(finished_run / "recipe.yaml", base=small_world.parent)
    assert again.recipe == load_recipe(small_world).recipe
    assert again.as_yaml() == (finished_run / "recipe.yaml").read_text()


def test_the_store_is_whole_and_has_the_training_rows_of_every_teacher(
    finished_run: Path, rows: list[dict[str, str]]
) -> None:
    training = [row for row in rows if row["split"] == "train"]
    store = FeatureStore.open(finished_run / "features")
    assert set(store.teachers) == set(TEACHERS)
    for teacher in TEACHERS:
        assert store.output(teacher, "image").rows == len(training)
        assert store.output(teacher, "text").rows == len({row["text"] for row in training})
    assert verify(finished_run / "features").damages == ()


def test_the_student_loads_in_stock_open_clip_and_says_the_same(finished_run: Path) -> None:
    folder = finished_run / "student"
    stock, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    stock.eval()
    own = load_student(folder)
    image = Image.new("RGB", (32, 32), (120, 40, 200))
    raster = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 32, 32, 3)
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["chest radiograph"])
    with torch.inference_mode():
        images, texts = own.embed_images(raster), own.embed_tokens(own.tokenize(["chest radiograph"]))
        torch.testing.assert_close(stock.encode_image(preprocess(image)[None]), images)
        torch.testing.assert_close(stock.encode_text(tokens), texts)


@pytest.mark.parametrize("task", TASKS)
def test_student_teachers_and_their_mean_have_predictions_and_a_number_with_its_interval(
    finished_run: Path, results: Results, task: str, rows: list[dict[str, str]]
) -> None:
    tested = sum(row["split"] == "test" for row in rows)
    dumps = [*(finished_run / "evaluation" / "predictions" / task).glob("*.parquet")]
    assert len(dumps) == len(MODELS)
    for path in dumps:
        assert read_predictions(path) is not None
        assert pq.read_table(path).num_rows >= tested
    assert [model.name for model in results.models] == [*MODELS]
    for model in MODELS:
        found = results.main(model, task)
        assert found is not None
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert 0.0 <= found.low <= found.value <= found.high <= 1.0
        assert results.main(model, MEAN_TASK) is not None


def test_the_student_has_learnt_something(results: Results) -> None:
    """An epoch a stage on 82 images: modalities differ so much that a linear probe is far above chance."""
    probe = results.main("student", "probe")
    assert probe is not None
    assert probe.value is not None
    assert probe.value > 1.5 / len(CLASSES)


def test_the_bundle_passes_its_own_check_and_runs(finished_run: Path, small_world: Path) -> None:
    bundle = Bundle.open(finished_run / "bundle")
    bundle.verify()
    images = sorted((small_world.parent / "data" / "images").glob("*.png"))[:3]
    found = classify(bundle, [ImageRef(path) for path in images], list(CLASSES.values()))
    assert len(found) == 3
    for each in found:
        assert set(each.scores) == set(CLASSES.values())
        assert sum(each.scores.values()) == pytest.approx(1.0, abs=1e-4)
    card = (finished_run / "bundle" / "README.md").read_text()
    assert all(teacher in card for teacher in TEACHERS)


def test_the_report_names_every_model_and_asks_nothing_of_a_network(finished_run: Path) -> None:
    report = (finished_run / "report.html").read_text()
    for teacher in TEACHERS:
        assert teacher in report
    for task in TASKS:
        assert task in report
    assert "<script" not in report.lower()
    referred = re.findall(r"""(?:src|href|action|data|url)\s*[=(]\s*["']?\s*([^"'\s>)]+)""", report)
    assert [each for each in referred if not each.startswith(("data:", "#"))] == []
    assert "@import" not in report


def _words_of_samples(rows: list[dict[str, str]]) -> set[str]:
    return (
        {row["patient_id"] for row in rows} | {row["text"] for row in rows} | {row["image"] for row in rows}
    )


@pytest.mark.parametrize("part", ["report.html", "bundle", "features", "student", "stages", "evaluation"])
def test_no_captions_patients_or_image_names_leave(
    finished_run: Path, part: str, rows: list[dict[str, str]]
) -> None:
    place = finished_run / part
    paths = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    content = b"\n".join(path.read_bytes() for path in paths)
    # Parquet may compress: look at its columns as text too.
    content += b"\n".join(
        str(pq.read_table(path).to_pylist()).encode() for path in paths if path.suffix == ".parquet"
    )
    assert len(content) > 1000
    # A caption may be a class prompt word for word; those stand in the suite.
    words = {word for word in _words_of_samples(rows) if word.lower() not in CLASSES.values()}
    assert len(words) > SAMPLES
    assert sorted(word for word in words if word.encode() in content) == []


def test_nothing_tells_about_the_machine(finished_run: Path, small_world: Path) -> None:
    places = (str(small_world.parent).encode(), str(finished_run).encode())
    telling = [
        path.relative_to(finished_run).as_posix()
        for path in finished_run.rglob("*")
        if path.is_file() and any(place in path.read_bytes() for place in places)
    ]
    assert telling == []


def test_running_again_does_nothing_and_says_so(
    own_run: Path, small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unreadable, "decode_beside", None)  # no image is looked at twice
    before = digests(own_run)
    started = time.monotonic()
    diary = do_run(small_world, own_run)
    seconds = time.monotonic() - started
    after = digests(own_run)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == set()
    assert _work(diary) == []
    assert diary.said == [
        "features: done already", "stage pretrain: done already", "stage distill: done already",
        "evaluate: done already", "export: done already", "audit: done already", "report: done already",
    ]  # fmt: skip
    assert seconds < 8


def test_a_report_with_examples_is_evaluated_for_them(own_run: Path, small_world: Path) -> None:
    diary = do_run(small_world, own_run, "report.examples=true")
    assert "evaluate: done anew, since these changed: examples (new)" in diary.said
    shown = pq.read_table(own_run / "evaluation/predictions/probe/student.parquet")["sample"].to_pylist()
    assert {len(name) for name in shown} == {16}  # keyed hashes, as without


def _redone(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The steps whose files differ."""
    differing = {name for name in before | after if before.get(name) != after.get(name)}
    top = {"/".join(name.split("/")[: 2 if name.startswith("stages/") else 1]) for name in differing}
    return top - {"steps.json"}


def test_a_changed_stage_is_redone_with_all_that_follows(own_run: Path, small_world: Path) -> None:
    before = hashes(own_run)
    diary = do_run(small_world, own_run, "stages.1.epochs=3", LIGHT)
    assert _redone(before, hashes(own_run)) == {
        "recipe.yaml", "stages/distill", "student", "evaluation", "bundle", "report.html"
    }  # fmt: skip
    assert diary.said[:3] == [
        "features: done already",
        "stage pretrain: done already",
        "stage distill: trained anew, since these changed: stage.epochs (1 → 3)",
    ]
    assert "Training pretrain" not in diary.opened
    assert any(
        line.startswith("evaluate: done anew, since these changed: models.student") for line in diary.said
    )
    assert any(line.startswith("export: done anew, since these changed: ") for line in diary.said)
    steps = json.loads((own_run / "steps.json").read_text())
    assert steps["stage distill"]["inputs"]["stage"]["epochs"] == 3


def test_a_changed_first_stage_changes_the_second(own_run: Path, small_world: Path) -> None:
    diary = do_run(small_world, own_run, "stages.0.learning_rate=2e-3", until="train")
    said = [line for line in diary.said if line.startswith("stage")]
    assert said[0] == "stage pretrain: trained anew, since these changed: stage.learning_rate (0.001 → 0.002)"
    assert said[1].startswith("stage distill: trained anew, since these changed: initial (")
    assert len(said) == 2


def test_what_does_not_decide_the_student_does_not_train_it_again(own_run: Path, small_world: Path) -> None:
    before = hashes(own_run)
    free = ("stages.1.log_every=3", "stages.1.checkpoint_every=5", "features.batch_size=4", "about.what=else")
    diary = do_run(small_world, own_run, *free, until="evaluate")
    assert _redone(before, hashes(own_run)) == {"recipe.yaml"}
    assert _work(diary) == []


def test_other_licence_terms_reach_student_and_bundle_without_training(
    own_run: Path, small_world: Path
) -> None:
    change = "teachers.general.licence=BSD-3-Clause"
    diary = do_run(small_world, own_run, change, until="train")
    assert not [label for label in diary.opened if label.startswith("Training")]
    assert "BSD-3-Clause" in (own_run / "student" / "meddistill.json").read_text()


def test_other_modalities_of_a_teacher_train_its_stage_again(own_run: Path, small_world: Path) -> None:
    """No number of the teacher changes, but the rows do that it is asked about."""
    shards = {name: found for name, found in hashes(own_run).items() if name.endswith(".safetensors")}
    diary = do_run(small_world, own_run, "teachers.microscopy.modalities=[dermatology]", until="train")
    assert "Training distill" in diary.opened
    assert "Training pretrain" not in diary.opened
    (line,) = [line for line in diary.said if line.startswith("stage distill")]
    assert "teachers.microscopy.modalities (['histology'] → ['dermatology'])" in line
    after = hashes(own_run)
    kept = {name: found for name, found in shards.items() if name.startswith("features/teachers")}
    assert {name: after.get(name) for name in kept} == kept


@pytest.mark.parametrize("lost", ["student", "features", "report.html"])
def test_work_that_somebody_deleted_is_done_again(own_run: Path, small_world: Path, lost: str) -> None:
    before = hashes(own_run)
    place = own_run / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    do_run(small_world, own_run)
    after = hashes(own_run)
    weights = [name for name in before if name.endswith(".safetensors")]
    assert {name: after.get(name) for name in weights} == {name: before[name] for name in weights}
    assert place.exists()


def test_a_damaged_bundle_is_exported_again(own_light_run: Path, small_world: Path) -> None:
    place = own_light_run / "bundle" / "open_clip" / "open_clip_model.safetensors"
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    assert not is_whole(own_light_run / "bundle")
    do_run(small_world, own_light_run, LIGHT)
    assert is_whole(own_light_run / "bundle")
