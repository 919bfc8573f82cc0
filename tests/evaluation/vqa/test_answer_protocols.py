"""Published protocols of closed-set answering: what they set, what a suite may change, what is told of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vqa_world import CLOSED_SET, TokenModel, accuracy, predict, suite, task_of, write_questions

from meddistill.evaluation.models import cache as embeddings_module
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig
from meddistill.progress import SilentProgress
from recording_progress import RecordingProgress

BARE = {"name": "a", "kind": "vqa_closed_set", "train": "train", "test": "test"}
# What a quick fit of a model without trainable towers needs.
QUICK = {**CLOSED_SET, "towers": "frozen"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


def _config(**more: Any) -> VqaClosedSetConfig:
    return VqaClosedSetConfig.model_validate({**BARE, **more})


def _resolved(config: VqaClosedSetConfig) -> dict[str, Any]:
    names = (
        "towers", "loss", "epochs", "batch_size", "learning_rate", "tower_learning_rate", "schedule",
        "weight_decay", "second_moment", "clip_norm", "policy",
    )  # fmt: skip
    return {name: getattr(config, name) for name in names}


def test_what_the_protocols_set() -> None:
    default = {
        "towers": "frozen", "loss": "cross_entropy", "epochs": 30, "batch_size": 64, "learning_rate": 5e-4,
        "tower_learning_rate": 1e-5, "schedule": "cosine", "weight_decay": 0.01, "second_moment": 0.999,
        "clip_norm": None, "policy": "trainval",
    }  # fmt: skip
    assert _resolved(_config()) == default
    assert _resolved(_config(protocol="m3ae")) == {
        "towers": "tuned", "loss": "binary_cross_entropy", "epochs": 50, "batch_size": 64,
        "learning_rate": 2.5e-4, "tower_learning_rate": 5e-6, "schedule": "linear", "weight_decay": 0.01,
        "second_moment": 0.98, "clip_norm": None, "policy": "all",
    }  # fmt: skip
    assert _resolved(_config(protocol="mevf")) == default | {
        "towers": "tuned", "loss": "binary_cross_entropy", "epochs": 20, "batch_size": 32, "clip_norm": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, ()),
        ({"epochs": 15, "batch_size": 32}, ()),
        ({"towers": "frozen"}, ("`towers: frozen` (published: tuned)",)),
        ({"epochs": 3}, ("`epochs: 3` (published: 50 or 15 or 10)",)),
        ({"protocol": "mevf", "loss": "cross_entropy", "epochs": 200},
         ("`loss: cross_entropy` (published: binary_cross_entropy)",)),
        ({"protocol": "default", "epochs": 3}, ()),
    ],
)  # fmt: skip
def test_what_is_set_otherwise_is_told(more: dict[str, Any], said: tuple[str, ...]) -> None:
    config = _config(**{"protocol": "m3ae", **more})
    assert config.departures == said
    again = VqaClosedSetConfig.model_validate(config.model_dump())
    assert again == config


@pytest.mark.parametrize("protocol", ["none", ["m3ae"], None])
def test_a_protocol_that_is_none_is_refused(protocol: Any) -> None:
    with pytest.raises(ValueError, match="protocol"):
        _config(protocol=protocol)


def test_facts_tell_what_held(asked: Path, tmp_path: Path) -> None:
    facts = task_of(asked, tmp_path, {**QUICK, "protocol": "m3ae", "epochs": 15}).facts()
    assert (facts["protocol"], facts["towers"], facts["schedule"]) == ("m3ae", "frozen", "linear")
    assert (facts["epochs"], facts["second_moment"], facts["tower_learning_rate"]) == (15, 0.98, 5e-6)
    assert "`towers: frozen` (published: tuned)" in facts["departures"]
    assert any("not as protocol m3ae has it: `towers: frozen`" in each for each in facts["warnings"])
    plain = task_of(asked, tmp_path, CLOSED_SET).facts()
    assert plain["departures"] == []
    assert not any("protocol" in each for each in plain["warnings"])


def test_a_protocol_that_tunes_needs_towers_that_can_be(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, {**CLOSED_SET, "protocol": "m3ae"})
    embeddings = Embeddings(TokenModel(), folder=tmp_path, progress=SilentProgress())
    assert task.unmet_requirement(embeddings) == "no towers that can be tuned"


def test_m3ae_and_mevf(asked: Path, tmp_path: Path) -> None:
    m3ae = task_of(asked, tmp_path, {**QUICK, "protocol": "m3ae"})
    assert m3ae.facts()["coverage"] == 1
    assert accuracy(predict(m3ae, TokenModel(), tmp_path), "closed") > 0.9
    mevf = task_of(asked, tmp_path, {**QUICK, "protocol": "mevf", "epochs": 8})
    dump = predict(mevf, TokenModel(), tmp_path)
    assert "the right one for 100.0 %" in dump.note
    closed = np.array(dump.answer_types) == "closed"
    given = np.array(mevf.vocabulary.answers)[dump.chosen]
    assert set(given[closed]) <= {"yes", "no"}
    assert not set(given[~closed]) & {"yes", "no"}
    assert accuracy(dump, "closed") > 0.8
    no_tables_answer = mevf.truth("test") < 0
    assert (dump.right.reshape(2, -1)[:, no_tables_answer] == 0).all()


def test_coverage_of_two_sets_is_of_the_right_one(tmp_path: Path) -> None:
    """A closed test question whose answer only open questions have cannot be answered from its set."""
    world = write_questions(tmp_path, patients=24)
    path = world / "questions.csv"
    rows = path.read_text().splitlines()
    last = max(number for number, row in enumerate(rows) if row.endswith("test") and "Is it red?" in row)
    rows[last] = rows[last].replace(",Yes,", ",green,").replace(",no,", ",green,")
    path.write_text("\n".join(rows) + "\n")
    found = {
        protocol: task_of(world, tmp_path / protocol, {**QUICK, "protocol": protocol})
        for protocol in ("default", "mevf")
    }
    n = len(found["mevf"].tested)
    gap = found["default"].facts()["coverage"] - found["mevf"].facts()["coverage"]
    assert gap == pytest.approx(1 / n)
    assert (~found["mevf"].answerable & found["default"].answerable).sum() == 1


def test_the_bar_counts_epochs_of_all_seeds(asked: Path, tmp_path: Path) -> None:
    told = RecordingProgress()
    predict(task_of(asked, tmp_path, {**CLOSED_SET, "epochs": 3}), TokenModel(), tmp_path, told)
    assert told.bars["student: closed"] == ("epochs", 6, 6)


@pytest.mark.parametrize("kind", ["patches", "pooled"])
def test_no_image_is_hashed_again(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    class Pooled(TokenModel):
        def image_tokens(self, samples: Any, **more: Any) -> None:  # noqa: ARG002
            return None

    task = task_of(asked, tmp_path, {**CLOSED_SET, "epochs": 1, "seeds": 1})

    def refused(samples: Any) -> Any:
        msg = f"{len(samples)} images are read again."
        raise AssertionError(msg)

    monkeypatch.setattr(embeddings_module, "image_keys", refused)
    predict(task, TokenModel() if kind == "patches" else Pooled(), tmp_path)


def test_suites_take_protocols() -> None:
    config = suite({**BARE, "protocol": "m3ae", "test": "test"})
    assert config.tasks[0].towers == "tuned"
