"""Data and recipes that changed under an unfinished run, and two runs at once, through the commands."""

import signal
import time
from collections.abc import Callable

import pytest
from faulty_world import Say, World

from forked import Forked
from meddistill.cli import main
from meddistill.students.folder import load_student
from meddistill.training.checkpoint import Checkpoints
from recipe_data import hashes

Change = Callable[[World], None]


def _interrupt_after_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = Checkpoints.save

    def interrupted(self, progressed):
        genuine(self, progressed)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)


def _row_added(world: World) -> None:
    world.rows.append({**world.rows[0], "id": "sample-new", "text": "another finding"})


def _row_removed(world: World) -> None:
    del world.rows[3]


def _caption_edited(world: World) -> None:
    world.rows[3]["text"] = "no finding at all"


def _image_edited(world: World) -> None:
    path = world.folder / world.rows[3]["image"]
    path.write_bytes((world.folder / world.rows[4]["image"]).read_bytes())


def _learning_rate(world: World) -> None:
    world.recipe["stages"][0]["learning_rate"] = 0.5


def _precision(world: World) -> None:
    world.recipe["stages"][0]["precision"] = "bfloat16"


def _teacher_gone(world: World) -> None:
    del world.recipe["teachers"]["two"]


CHANGES: dict[Change, str] = {
    _row_added: "data was ",
    _row_removed: "data was ",
    _caption_edited: "data was ",
    _image_edited: "data was ",
    _learning_rate: "config.learning_rate was 0.001, is 0.5",
    _precision: "config.precision was auto, is bfloat16",
    _teacher_gone: "teachers.two is gone",
}


@pytest.mark.parametrize(("change", "named"), CHANGES.items(), ids=[each.__name__[1:] for each in CHANGES])
def test_what_changed_under_an_unfinished_stage_is_refused_and_named(
    change: Change, named: str, world: World, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = world.write()
    with monkeypatch.context() as patched:
        _interrupt_after_a_checkpoint(patched)
        assert say("train", recipe, "--out", world.out).code == 130
    before = hashes(world.out / "stages")
    change(world)
    said = say("train", world.write(), "--out", world.out)
    said.refused(named, "must belong to the same settings and data", "remove the stage's folder")
    assert hashes(world.out / "stages") == before
    assert not (world.out / "student").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [(_caption_edited, "data ("), (_teacher_gone, "teachers.two (gone)"), (_precision, "precision (auto →")],
    ids=["caption", "teacher", "precision"],
)
def test_what_changed_since_a_finished_stage_trains_it_anew(
    change: Change, named: str, world: World, say: Say
) -> None:
    say("train", world.write(), "--out", world.out).went_well()
    before = hashes(world.out / "student")
    change(world)
    said = say("train", world.write(), "--out", world.out).went_well()
    (line,) = [line for line in said.err.splitlines() if line.startswith("stage distill: trained anew")]
    assert named in line
    assert hashes(world.out / "student") != before


def test_rows_that_went_before_their_features_were_there(world: World, say: Say) -> None:
    """A store that was begun with rows which the table no longer shows cannot be completed."""
    recipe = world.write()
    say("extract", recipe, "--out", world.out).went_well()
    path = world.out / "features" / "teachers" / "one" / "image-00000000.safetensors"
    path.write_bytes(b"")
    say("features", "verify", world.out / "features", "--repair").went_well()
    _row_removed(world)
    said = say("extract", world.write(), "--out", world.out)
    said.refused("1 of them are not in it", "extract with the table that the store was begun with")


def test_two_runs_at_once(world: World, say: Say) -> None:
    """The second is refused, whatever the first is at; the first goes on to its end."""
    recipe = world.write()
    with Forked(main, ["train", str(recipe), "--out", str(world.out), "--quiet"]) as first:
        deadline = time.monotonic() + 120
        while not (world.out / "recipe.yaml").is_file() and first.running:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        first.send(signal.SIGSTOP)
        said = say("train", recipe, "--out", world.out)
        first.send(signal.SIGCONT)
        said.refused("must be used by one run at a time", "choose another folder with --out")
        assert first.ended()[0] == 0
    assert load_student(world.out / "student").embed_dim == world.recipe["student"]["embed_dim"]
