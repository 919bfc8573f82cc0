"""Answers ranked without training: against brute force, which ones are ranked, and what can be right."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel
from vqa_world import ZERO_SHOT, TokenModel, accuracy, predict, suite, table, task_of, write_questions

from meddistill.errors import ConfigError
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.zero_shot import softmax


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": None}, "got neither"),
        ({"answers": ["yes"]}, "Give one of them"),
        ({"same_question_type": True, "question_type": None}, "must have `question_type`"),
        ({"template": "{question}"}, "once"),
        ({"train": None, "answers": ["a", "b"], "max_candidates": 2}, "must have `train`"),
    ],
)
def test_refused_candidates(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suite({**ZERO_SHOT, **more})


def test_zero_shot_is_brute_force(asked: Path, tmp_path: Path) -> None:
    task, model = task_of(asked, tmp_path, ZERO_SHOT), TokenModel(noise=0.2)
    dump = predict(task, model, tmp_path)
    images = normalized(model.embed_images(task.tested.samples, advance=lambda _: None))
    answers = task.vocabulary.answers
    for row, text in enumerate(task.questions["test"].texts):
        prompts = normalized(model.embed_texts([f"{text} {answer}" for answer in answers]))
        oracle = softmax(20.0 * np.round(images[row] @ prompts.T, 6).astype(np.float32))
        found = np.zeros(len(answers))
        found[dump.best[row]] = dump.scores[row]
        np.testing.assert_allclose(found, oracle, atol=1e-4)
        assert oracle[dump.chosen[row]] == pytest.approx(oracle.max(), abs=1e-4)
    assert task.facts()["chance"] == pytest.approx(task.facts()["coverage"] / len(answers))


def test_candidates_by_type_and_by_kind(asked: Path, tmp_path: Path) -> None:
    by_type = task_of(asked, tmp_path, {**ZERO_SHOT, "candidates": "by_type"})
    dump = predict(by_type, TokenModel(), tmp_path)
    given = np.array(by_type.vocabulary.answers)[dump.chosen]
    closed = np.array(dump.answer_types) == "closed"
    assert set(given[closed]) <= {"yes", "no"}
    assert not set(given[~closed]) & {"yes", "no"}
    kind = task_of(asked, tmp_path, {**ZERO_SHOT, "same_question_type": True})
    dump = predict(kind, TokenModel(), tmp_path)
    given = np.array(kind.vocabulary.answers)[dump.chosen]
    colour = np.array(dump.question_types) == "colour"
    assert set(given[colour]) <= {"red", "green", "blue"}
    assert kind.prompts < by_type.prompts
    assert accuracy(dump, "open") > 0.8


def test_a_listed_vocabulary_needs_no_training_table(asked: Path, tmp_path: Path) -> None:
    content = {**ZERO_SHOT, "train": None, "answers": ["Red", "the green", "blue"]}
    task = task_of(asked, tmp_path, content)
    assert task.vocabulary.answers == ("blue", "green", "red")
    dump = predict(task, TokenModel(), tmp_path)
    assert set(dump.answer_tables) == {""}
    assert all(each.answer_row is None for each in dump.exhibits("student", "nearest"))
    assert task.baselines() == {}
    assert task.facts()["answer_vocabulary"] == "listed in the suite"


def _most_common(answers: Sequence[str], most: int) -> list[str]:
    counts = Counter(answers)
    return sorted(counts, key=lambda answer: (-counts[answer], answer))[:most]


def test_too_many_prompts_leave_the_most_frequent_answers(asked: Path, tmp_path: Path) -> None:
    """Three questions and ten prompts: three answers each, of training those that are given most often."""
    config = suite({**ZERO_SHOT, "max_prompts": 10})
    check_tasks(config, SuiteTables(config, base=asked))
    task = task_of(asked, tmp_path, {**ZERO_SHOT, "max_prompts": 10})
    assert task.prompts == 9
    often = _most_common(task.questions["train"].answers, 3)
    dump = predict(task, TokenModel(), tmp_path)
    assert set(np.array(task.vocabulary.answers)[dump.chosen]) <= set(often)
    facts = task.facts()
    assert facts["candidates"] == 3
    inside = [answer in often for answer in task.questions["test"].answers]
    assert facts["coverage"] == np.mean(inside)
    assert facts["chance"] == pytest.approx(np.mean(inside) / 3)
    assert "only the 3 most frequent" in facts["warnings"][0]
    assert "count as wrong" in facts["warnings"][1]


def test_max_candidates_are_of_the_questions_kind(asked: Path, tmp_path: Path) -> None:
    content = {**ZERO_SHOT, "max_candidates": 2}
    plain = task_of(asked, tmp_path, content)
    assert plain.prompts == 6
    assert not any("most frequent" in each for each in plain.facts()["warnings"])
    kinds = task_of(asked, tmp_path, {**content, "candidates": "by_type", "same_question_type": True})
    train = kinds.questions["train"]
    for row, (kind, words) in enumerate(
        zip(kinds.questions["test"].question_types, kinds.questions["test"].texts, strict=True)
    ):
        given = set(np.array(kinds.vocabulary.answers)[kinds.allowed[row]])
        own = _most_common(
            [a for a, k in zip(train.answers, train.question_types, strict=True) if k == kind], 2
        )
        if kind:
            assert given == set(own), words
    assert kinds.facts()["candidates"] == 2


@pytest.mark.parametrize(
    "more", [{"max_prompts": 5}, {"train": None, "answers": ["red", "green", "blue"], "max_prompts": 8}]
)
def test_prompts_that_cannot_be_brought_down_are_refused(
    asked: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    """Before any is embedded: two answers are too many, or nothing tells which of them are frequent."""
    config = suite({**ZERO_SHOT, **more})
    with pytest.raises(ConfigError, match=r"3 questions with \d answers each make \d prompts, over"):
        check_tasks(config, SuiteTables(config, base=asked))
    model = TokenModel()
    with pytest.raises(ConfigError, match="max_prompts"):
        predict(task_of(asked, tmp_path, {**ZERO_SHOT, **more}), model, tmp_path)
    assert model.images_seen == 0


@pytest.mark.parametrize("template", ["{question} {answer}", "the answer is {answer}"])
def test_every_distinct_prompt_is_embedded_once(asked: Path, tmp_path: Path, template: str) -> None:
    class Counting(TokenModel):
        asked: list[str] = []  # noqa: RUF012

        def embed_texts(self, texts: Any) -> Any:
            self.asked.extend(texts)
            return super().embed_texts(texts)

    task = task_of(asked, tmp_path, {**ZERO_SHOT, "template": template, "candidates": "by_type"})
    model = Counting()
    predict(task, model, tmp_path)
    assert len(model.asked) == len(set(model.asked)) == task.prompts


def test_questions_in_other_letters_are_one_question(tmp_path: Path) -> None:
    world = write_questions(tmp_path, patients=8)
    path = world / "questions.csv"
    path.write_text(path.read_text().replace("What is the colour?", "WHAT is  the colour?", 3))
    task = task_of(world, tmp_path / "a", ZERO_SHOT)
    assert task.prompts == 3 * len(task.vocabulary)


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("candidates", ["vocabulary", "by_type"])
@pytest.mark.parametrize("same", [False, True])
def test_coverage_is_what_an_oracle_scores(
    tmp_path: Path,
    most: int | None,
    candidates: str,
    same: bool,
) -> None:
    """Closed questions about sides, an answer that only open training questions have, an unknown one."""
    world = _sides(tmp_path)
    more = {"answer_type": "type", "question_type": "kind", "same_question_type": same}
    content = {
        **ZERO_SHOT,
        **more,
        "train": "t",
        "test": "s",
        "candidates": candidates,
        "max_candidates": most,
    }
    tables = {split: table(split, table="few.csv") for split in "ts"}
    task = task_of(world, tmp_path / "out", content, tables=tables)
    truth = task.truth("test")
    oracle = np.where(task.allowed, 0.5, 0.0)
    rows = np.flatnonzero(truth >= 0)
    oracle[rows, truth[rows]] *= 2
    dump = task._predictions([oracle])
    facts = task.facts()
    assert facts["coverage"] == pytest.approx(float((dump.right == 1).mean()))
    answerable = {each.metric: each for each in dump.metrics(Resampler(BootstrapConfig(resamples=20)))}
    assert answerable["accuracy_answerable"].replicates[0] == 1
    assert answerable["accuracy_answerable"].n == round(facts["coverage"] * len(task.tested))
    for baseline in task.baselines().values():
        assert task.allowed[np.arange(len(truth)), baseline.chosen].all()
    if candidates == "by_type" and most is None and not same:
        allowed = [set(np.array(task.vocabulary.answers)[row]) for row in task.allowed]
        assert allowed[0] == {"yes", "left", "right"}, "what closed training questions are answered with"
        assert allowed[2] == {"lung", "left"}
        assert facts["coverage"] == pytest.approx(3 / 5)
        assert f"{60:.1f} %" in facts["warnings"][0]


def _sides(folder: Path) -> Path:
    world = write_questions(folder, patients=9)
    rows = [
        ("is it left or right", "left", "side", "CLOSED", "t"), ("is it large", "yes", "size", "CLOSED", "t"),
        ("left or right lung", "right", "side", "CLOSED", "t"), ("what organ", "lung", "organ", "OPEN", "t"),
        ("which side", "left", "side", "OPEN", "t"),
        ("is it left or right", "right", "side", "CLOSED", "s"), ("is it", "lung", "organ", "CLOSED", "s"),
        ("what organ", "lung", "organ", "OPEN", "s"), ("which side", "left", "side", "OPEN", "s"),
        ("what organ", "brain", "organ", "OPEN", "s"),
    ]  # fmt: skip
    names = [f"p{number}_{image}.png" for image in (0, 1) for number in range(9)]
    with (world / "few.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("image", "question", "answer", "kind", "type", "patient", "modality", "split"))
        # Other patients in both splits: half of the images are of the same ones.
        chosen = [*names[:5], *names[5:9], names[9 + 8]]
        writer.writerows(
            (name, *row[:4], name.split("_")[0], "", row[4]) for name, row in zip(chosen, rows, strict=True)
        )
    return world


def test_a_model_that_says_the_same_of_everything_guesses(asked: Path, tmp_path: Path) -> None:
    class Collapsed(ColourModel):
        def embed_texts(self, texts: Any) -> Any:
            return np.ones((len(texts), 8), dtype=np.float32)

    task = task_of(asked, tmp_path, ZERO_SHOT)
    dump = predict(task, Collapsed(), tmp_path)
    assert accuracy(dump) == pytest.approx(task.facts()["chance"])
