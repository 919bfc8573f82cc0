"""Every verb from the outside: exit codes, where its words go, overrides, interruption."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from forked import Forked
from meddistill.cli import VERBS, main
from meddistill.cli.console import LINE_WIDTH
from recipe_data import TEACHERS, environment

Say = Callable[..., tuple[int, str, str]]
WITH_RECIPE = ("run", "check", "extract", "train", "evaluate", "export", "report")


@pytest.mark.parametrize("verb", WITH_RECIPE)
def test_a_finished_run_is_left_alone_and_shown(
    say: Say, small_world: Path, own_run: Path, verb: str
) -> None:
    code, out, err = say(verb, small_world, "--out", own_run)
    assert code == 0, err
    assert "Traceback" not in err
    if verb == "check":
        return
    for line in ("features:", "student:", "results:", "bundle:", "report:"):
        assert any(each.startswith(line) and str(own_run) in each for each in out.splitlines()), line
    # Scores may be of an earlier student where a run ends before it evaluates.
    judged = verb not in ("extract", "train")
    for word in (*TEACHERS, "teacher mean"):
        assert (word in out) == judged, word
    assert "Training" not in err


def test_extract_and_train_stop_where_they_say(say: Say, small_world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert say("extract", small_world, "--out", out)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "decoded_images", "features", "recipe.yaml", "steps.json"
    ]  # fmt: skip
    code, told, err = say("train", small_world, "--out", out, "--set", "stages.0.epochs=1")
    assert code == 0
    assert "features: done already" in err
    assert {path.name for path in out.iterdir()} == {
        "decoded_images", "features", "recipe.yaml", "steps.json", "stages", "student"
    }  # fmt: skip
    assert [line.partition(":")[0] for line in told.splitlines()] == ["features", "student"]


def test_report_writes_the_report_again(say: Say, small_world: Path, own_run: Path) -> None:
    (own_run / "report.html").write_text("old")
    assert say("report", small_world, "--out", own_run)[0] == 0
    assert "</html>" in (own_run / "report.html").read_text()


def test_overrides_reach_the_run_and_its_record(say: Say, small_world: Path, tmp_path: Path) -> None:
    second = "stages.1={name: distill, method: contrastive, epochs: 1, batch_size: 16}"
    changes = ("--set", "stages.0.epochs=2", "--set", second, "--set", "teachers={}")
    code, _, err = say("train", small_world, "--out", tmp_path / "run", *changes)
    assert code == 0, err
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert [stage["epochs"] for stage in resolved["stages"]] == [2, 1]
    assert not (tmp_path / "run" / "features").exists()
    done = json.loads((tmp_path / "run" / "stages" / "pretrain" / "done.json").read_text())
    assert done["identity"]["config"]["epochs"] == 2


def test_the_run_folder_is_named_after_the_recipe(
    say: Say, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert say("extract", small_world)[0] == 0
    assert (tmp_path / "runs" / "small" / "features" / "manifest.json").is_file()


def test_smoke_turns_the_dial(say: Say, own_world: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load(own_world.read_text())
    own_world.write_text(yaml.safe_dump({**recipe, "smoke": {"stages.0.epochs": 2, "stages.1.epochs": 2}}))
    assert say("extract", own_world, "--out", tmp_path / "run", "--smoke")[0] == 0
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert [stage["epochs"] for stage in resolved["stages"]] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent.yaml"], "the file must exist"),
        (["run"], "RECIPE"),
        (["fly"], "fly"),
        (["train", "{recipe}", "--set", "stages.9.epochs=1"], "`stages.9.epochs` must name a place"),
        (["train", "{recipe}", "--set", "stages.0.epochs"], "must have the form key=value"),
        (["train", "{recipe}", "--set", "stages.0.epochs=none"], "`stages.0.epochs` must be"),
        (["train", "{recipe}", "--set", "licence_policy=permisive"], "licence_policy"),
        (["train", "{recipe}", "--smoke"], "`smoke` must name what `--smoke` changes; got nothing."),
        (["check", "{recipe}", "--smoke"], "or leave `--smoke` out"),
        (["features", "verify", "absent"], "absent"),
        (["features", "stats", "absent"], "absent"),
        (["teachers", "show", "biomedclipp"], "must be one of biomedclip, "),
        (["embed", "absent", "--texts", "x"], "absent"),
        (["classify", "absent", "x.png", "--labels", "a, b"], "absent"),
    ],
)
def test_the_users_mistakes_have_code_two_and_one_message(
    say: Say, small_world: Path, arguments: list[str], message: str
) -> None:
    code, out, err = say(*[str(small_world) if each == "{recipe}" else each for each in arguments])
    assert (code, out) == (2, ""), err
    assert err.startswith("Error: ")
    assert message in err
    assert "Traceback" not in err


def test_our_mistakes_have_code_one_and_say_so(
    say: Say, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        msg = "something that cannot be"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr("meddistill.recipes.session.Session.samples", property(broken))
    code, _, err = say("extract", small_world, "--out", tmp_path / "run")
    assert code == 1
    assert "something that cannot be" in err
    assert "This is a mistake in MedDistill, not yours" in err


def test_a_loss_that_is_no_number_has_code_one_and_no_traceback(
    say: Say, small_world: Path, tmp_path: Path
) -> None:
    changes = ("learning_rate=1e38", "clip_norm=null", "batch_size=16", "checkpoint_every=5")
    settings = [word for change in changes for word in ("--set", f"stages.0.{change}")]
    code, _, err = say("train", small_world, "--out", tmp_path / "run", *settings)
    assert code == 1
    assert err.splitlines()[-1].startswith("Stopped: `loss` must be finite")
    assert "Traceback" not in err


def test_features_verify_stats_and_add(say: Say, small_world: Path, own_run: Path) -> None:
    store = own_run / "features"
    code, out, _ = say("features", "verify", store)
    assert code == 0
    assert "MB checked." in out
    code, out, _ = say("features", "stats", store)
    assert code == 0
    assert "82 images" in out
    for teacher in TEACHERS:
        assert teacher in out
    code, _, err = say("features", "add", small_world, "--out", own_run)
    assert code == 0
    assert "Training" not in err


def test_a_damaged_store_is_told_and_repaired(say: Say, small_world: Path, own_run: Path) -> None:
    store = own_run / "features"
    shard = store / "teachers" / "general" / "image-00000016.safetensors"
    whole = shard.read_bytes()
    content = bytearray(whole)
    content[-1] ^= 1
    shard.write_bytes(content)
    code, out, err = say("features", "verify", store)
    assert code == 2
    assert "image-00000016.safetensors" in out
    assert "1 of " in err
    assert "--repair" in err
    assert say("features", "verify", store, "--repair")[0] == 0
    assert say("features", "add", small_world, "--out", own_run)[0] == 0
    assert shard.read_bytes() == whole
    assert say("features", "verify", store)[0] == 0


def test_teachers_list_and_show(say: Say) -> None:
    code, out, _ = say("teachers", "list")
    assert code == 0
    assert "biomedclip" in out
    code, out, _ = say("teachers", "show", "biomedclip")
    assert code == 0
    assert "licence" in out
    assert "In a recipe:" in out


def test_classify_and_embed_with_the_bundle_of_a_run(say: Say, small_world: Path, finished_run: Path) -> None:
    image = next((small_world.parent / "data" / "images").glob("*.png"))
    bundle = finished_run / "bundle"
    code, out, _ = say("classify", bundle, image, "--labels", "chest radiograph, skin", "--format", "json")
    assert code == 0
    (row,) = json.loads(out)
    assert set(row["scores"]) == {"chest radiograph", "skin"}
    code, out, _ = say("embed", bundle, image, "--texts", "skin")
    assert code == 0
    assert [len(json.loads(line)["vector"]) for line in out.splitlines()] == [16, 16]


def test_on_a_pipe_there_are_plain_lines(small_world: Path, own_run: Path) -> None:
    """No bars, no colours, no cursor movements."""
    (own_run / "report.html").unlink()
    with Forked(main, ["run", str(small_world), "--out", str(own_run)]) as process:
        code, out, err = process.ended()
    assert code == 0, err
    assert "\x1b" not in out + err
    assert "\r" not in out + err
    assert "features: done already" in err
    lines = [line for line in out.splitlines() if str(own_run) not in line]
    assert max(len(line) for line in lines if "│" in line) <= 110
    assert max(len(line) for line in lines) <= LINE_WIDTH


def test_an_interrupted_training_has_code_130_and_goes_on(
    say: Say, small_world: Path, tmp_path: Path
) -> None:
    """Ctrl-C in the middle of a training, as a terminal sends it."""
    out = tmp_path / "run"
    stage = "{name: long, method: contrastive, epochs: 8, batch_size: 16, checkpoint_every: 2}"
    command = ["train", small_world, "--out", out, "--set", "teachers={}", "--set", f"stages=[{stage}]"]
    with Forked(main, [*map(str, command)]) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob("stages/long/checkpoints/step-*")) and process.running:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send(signal.SIGINT)
        code, told, err = process.ended()
    assert code == 130, err
    assert told == ""
    assert err.splitlines()[-1] == "Interrupted. The same command goes on where this one stopped."
    assert "Traceback" not in err
    code, _, err = say(*command)
    assert code == 0
    assert "Going on after step " in err
    assert (out / "student" / "open_clip_model.safetensors").is_file()


HEAVY = {"torch", "torchvision", "open_clip", "timm", "transformers", "pyarrow", "sklearn", "onnxruntime"}
LIGHT = """
import sys
{statement}
print(sorted({heavy} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import meddistill",
        "from meddistill.cli import main; assert main(['--help']) == 0",
        "from meddistill.cli import main; assert main(['--version']) == 0",
        "from meddistill.cli import main; assert main(['run', '--help']) == 0",
        "from meddistill.cli import main; assert main(['features', 'stats', '--help']) == 0",
        "from meddistill.cli import main; assert main(['teachers', 'list']) == 0",
    ],
)
def test_nothing_heavy_is_imported_for_help(statement: str) -> None:
    script = LIGHT.format(statement=statement, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_verb(say: Say) -> None:
    code, out, _ = say("--help")
    assert code == 0
    for verb in (*VERBS, "features", "teachers"):
        assert verb in out


def test_every_verb_is_tested() -> None:
    text = "".join(path.read_text() for path in sorted(Path(__file__).parents[1].rglob("test_*.py")))
    assert [verb for verb in VERBS if f'"{verb}"' not in text] == []
