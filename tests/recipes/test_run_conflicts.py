"""What does not fit: two runs in one folder, and inputs that changed between two runs."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meddistill.cli import main
from meddistill.errors import ConfigError, StoreError
from meddistill.recipes.run_folder import RunFolder
from recipe_data import LIGHT, Diary, digests, do_run, hashes
from tiny_teachers import save_open_clip

Table = list[dict[str, str]]


def _change(path: Path, change: Callable[[Table], Table]) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def _lines(diary: Diary, start: str) -> list[str]:
    return [line for line in diary.said if line.startswith(start)]


def _shards(run: Path) -> dict[str, str]:
    return {name: found for name, found in hashes(run / "features").items() if "/image-" in name}


@pytest.mark.parametrize("together", [False, True])
def test_a_second_run_in_the_same_folder_is_refused(
    own_run: Path, small_world: Path, together: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(own_run)
    with RunFolder(own_run).locked(shared=together):
        code = main(["run", str(small_world), "--out", str(own_run)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith(f"Error: `{own_run}` must be used by one run at a time; another one is")
    assert "choose another folder with --out" in captured.err
    assert "Traceback" not in captured.err
    assert hashes(own_run) == before


@pytest.mark.parametrize("verb", ["run", "check", "extract", "train", "evaluate", "export", "report", "demo"])
def test_the_run_folder_of_another_recipe_is_refused(
    light_run: Path, small_world: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(light_run)
    arguments = [] if verb == "demo" else [str(small_world), "--set", "name=other"]
    code = main([verb, *arguments, "--out", str(light_run)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    name = "demo" if verb == "demo" else "other"
    assert f"got {light_run}, which is that of small, for {name}. Choose another folder" in captured.err
    assert "--set name=small" in captured.err
    assert digests(light_run) == before


def test_a_recipe_renamed_goes_on_under_the_name_of_its_run(own_light_run: Path, own_world: Path) -> None:
    own_world.write_text(own_world.read_text().replace("name: small\n", "name: renamed\n", 1))
    with pytest.raises(ConfigError, match="--set name=small"):
        do_run(own_world, own_light_run, until="train")
    diary = do_run(own_world, own_light_run, "name=small", until="train")
    assert "features: done already" in diary.said
    assert "Training" not in " ".join(diary.opened)


def test_new_rows_are_added_to_the_store_and_trained_on(own_world: Path, own_run: Path) -> None:
    table, shards = own_world.parent / "data" / "pairs.csv", _shards(own_run)
    _change(table, lambda rows: [{**row, "split": "train"} if row["split"] == "val" else row for row in rows])
    diary = do_run(own_world, own_run, until="train")
    (features,) = _lines(diary, "features: done anew")
    assert "data (" in features
    assert _lines(diary, "features: 10 images and ")
    for stage in ("pretrain", "distill"):
        (line,) = _lines(diary, f"stage {stage}: trained anew")
        assert "data (" in line
    after = _shards(own_run)
    whole = [name for name in shards if not name.endswith("00000080.safetensors")]
    assert {name: after[name] for name in whole} == {name: shards[name] for name in whole}


def test_rows_that_went_stay_in_the_store_unused(own_world: Path, own_run: Path) -> None:
    table, shards = own_world.parent / "data" / "pairs.csv", _shards(own_run)
    _change(table, lambda rows: rows[:100])
    diary = do_run(own_world, own_run, until="train")
    assert _lines(diary, "features: ")[-1].endswith("of the store are not in this table")
    assert _lines(diary, "stage pretrain: trained anew")
    assert _shards(own_run) == shards


def test_a_changed_caption_trains_again_and_asks_for_that_text_alone(own_world: Path, own_run: Path) -> None:
    table, shards = own_world.parent / "data" / "pairs.csv", _shards(own_run)
    row = next(iter(_training_rows(table)))
    _change(table, lambda rows: [{**each, "text": "new"} if each["image"] == row else each for each in rows])
    diary = do_run(own_world, own_run, until="train")
    assert "features: 0 images and 1 texts are new and are added to the store" in diary.said
    assert _lines(diary, "stage pretrain: trained anew")
    assert _shards(own_run) == shards


def test_an_image_that_changed_under_its_name_is_noticed(own_world: Path, own_run: Path) -> None:
    table = own_world.parent / "data" / "pairs.csv"
    image = own_world.parent / "data" / next(iter(_training_rows(table)))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    image.unlink()
    Image.fromarray(noise).save(image)
    diary = do_run(own_world, own_run, until="train")
    assert "features: 1 images and 0 texts are new and are added to the store" in diary.said
    assert _lines(diary, "stage distill: trained anew")


def _training_rows(table: Path) -> list[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return [row["image"] for row in csv.DictReader(file) if row["split"] == "train"]


def test_a_changed_test_table_is_evaluated_again_without_training(own_world: Path, own_run: Path) -> None:
    table = own_world.parent / "data" / "classification.csv"
    _change(table, lambda rows: rows[:-16])
    diary = do_run(own_world, own_run, until="evaluate")
    (line,) = _lines(diary, "evaluate: done anew")
    assert "tables.test (" in line
    assert not [label for label in diary.opened if label.startswith("Training")]


def test_other_weights_of_a_teacher_are_refused_and_nothing_is_touched(
    own_world: Path, own_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_open_clip(own_world.parent / "teachers" / "microscopy", seed=9)
    before = hashes(own_run)
    code = main(["run", str(own_world), "--out", str(own_run)])
    captured = capsys.readouterr()
    assert code == 2
    assert "Error: teacher 'microscopy' must be the one that made" in captured.err
    assert "weights_sha256: " in captured.err
    assert "Extract to another folder, or delete this store" in captured.err
    assert "Traceback" not in captured.err
    assert hashes(own_run) == before


def test_without_the_old_store_the_new_weights_train_their_stage_again(
    own_world: Path, own_run: Path
) -> None:
    import shutil

    save_open_clip(own_world.parent / "teachers" / "microscopy", seed=9)
    shutil.rmtree(own_run / "features")
    diary = do_run(own_world, own_run, until="train")
    (line,) = _lines(diary, "stage distill: trained anew")
    assert "teachers.microscopy.fingerprint (" in line
    assert _lines(diary, "stage pretrain") == ["stage pretrain: done already"]


def test_other_views_are_refused_with_the_difference(own_world: Path, own_run: Path) -> None:
    with pytest.raises(
        StoreError, match=r"of the same settings; it differs:[\s\S]*views: 1 in the store, 2 requested"
    ):
        do_run(own_world, own_run, "features.views=2")


def test_another_precision_is_refused_with_the_difference(own_world: Path, own_run: Path) -> None:
    with pytest.raises(StoreError, match="float16 → float32"):
        do_run(own_world, own_run, "features.precision=float32")


def test_a_new_teacher_is_added_to_the_store(own_world: Path, own_run: Path) -> None:
    shards = _shards(own_run)
    save_open_clip(own_world.parent / "teachers" / "skin", seed=5)
    extra = "{kind: open_clip, model: 'local-dir:teachers/skin', licence: MIT, modalities: [dermatology]}"
    diary = do_run(own_world, own_run, f"teachers.skin={extra}", until="train")
    assert "teachers.skin (new)" in _lines(diary, "features: done anew")[0]
    assert "teachers.skin (new)" in _lines(diary, "stage distill: trained anew")[0]
    after = _shards(own_run)
    assert {name: after[name] for name in shards} == shards
    assert any(name.startswith("teachers/skin/") for name in after)


def test_an_unfinished_stage_with_other_settings_is_refused(
    own_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint is of no use for another learning rate; the message names both ways out."""
    from meddistill.training.checkpoint import Checkpoints

    genuine = Checkpoints.save

    def interrupted(self, progressed):
        genuine(self, progressed)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(Checkpoints, "save", interrupted)
    assert main(["train", str(own_world), "--out", str(out)]) == 130
    monkeypatch.undo()
    capsys.readouterr()
    code = main(["train", str(own_world), "--out", str(out), "--set", "stages.0.learning_rate=0.5"])
    captured = capsys.readouterr()
    assert code == 2
    assert "config.learning_rate was 0.001, is 0.5" in captured.err
    assert "Put them back, or remove the stage's folder to train it anew." in captured.err
    assert main(["train", str(own_world), "--out", str(out)]) == 0
    assert "Going on after step 1" in capsys.readouterr().err


def test_a_damaged_manifest_of_the_bundle_is_told_without_a_traceback(
    small_world: Path, own_light_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or mended; other files of a run are damaged in the tests of faults."""
    path = own_light_run / "bundle" / "manifest.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code = main(["run", str(small_world), "--out", str(own_light_run), "--set", LIGHT])
    captured = capsys.readouterr()
    assert code in {0, 2}
    assert "Traceback" not in captured.err
    if code == 2:
        assert path.name in captured.err
