"""Question answering with a head on coloured images, and what both tasks share: with nasty tables."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel
from vqa_world import CLOSED_SET, TokenModel, accuracy, predict, suite, table, task_of, write_questions

from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.vqa.closed_set import carved_out, routed
from meddistill.evaluation.tasks.vqa.inputs import rows_of


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


def test_the_answers_are_learnt(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, CLOSED_SET)
    dump = predict(task, TokenModel(), tmp_path)
    answerable = dump.truth >= 0
    assert dump.right[answerable].mean() > 0.9
    assert (dump.right[~answerable] == 0).all()
    assert np.unique(dump.seeds).tolist() == [0, 1]
    assert dump.note == ""
    baseline = task.baselines()
    assert set(baseline) == {"most frequent answer", "same question"}
    assert all(accuracy(each) < accuracy(dump) for each in baseline.values())


def test_a_model_without_tokens_is_asked_with_pooled_vectors(asked: Path, tmp_path: Path) -> None:
    dump = predict(task_of(asked, tmp_path, {**CLOSED_SET, "epochs": 1}), ColourModel(), tmp_path)
    assert "for want of patch tokens; one pooled vector a question" in dump.note


def test_vocabularies_and_their_coverage(asked: Path, tmp_path: Path) -> None:
    found = {}
    for policy in ("train", "trainval", "all"):
        task = task_of(asked, tmp_path, {**CLOSED_SET, "answer_vocabulary": policy})
        facts = task.facts()
        found[policy] = (facts["answers"], facts["coverage"], facts["warnings"])
        answers = [set(task.questions[role].answers) for role in ("train", "validation", "test")]
        wanted = set().union(*answers[: {"train": 1, "trainval": 2, "all": 3}[policy]])
        assert set(task.vocabulary.answers) == wanted
        inside = np.mean([answer in wanted for answer in task.questions["test"].answers])
        assert facts["coverage"] == inside
    assert found["train"][0] < found["trainval"][0] < found["all"][0]
    assert found["trainval"][1] < 1 == found["all"][1]
    assert "count as wrong" in found["train"][2][0]
    assert "read from the test table" in found["all"][2][0]


def test_answers_that_nobody_can_give_are_refused(asked: Path, tmp_path: Path) -> None:
    lines = (asked / "questions.csv").read_text().splitlines()
    changed = [
        line.replace(",Yes,", ",si,").replace(",no,", ",non,").replace("The ", "la ") for line in lines
    ]
    kept = [new if line.endswith(",test") else line for line, new in zip(lines, changed, strict=True)]
    (asked / "foreign.csv").write_text("\n".join(kept) + "\n")
    tables = {split: table(split, table="foreign.csv") for split in ("train", "val", "test")}
    task = task_of(asked, tmp_path, CLOSED_SET, tables=tables)
    with pytest.raises(TableError, match=r"right answer among the .* that can be given .*; none has"):
        task.check()


def test_sources_of_answers_name_the_first_row(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, CLOSED_SET)
    with (asked / "questions.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for answer, source in zip(task.vocabulary.answers, task.vocabulary.sources, strict=True):
        role, row = source
        assert task.questions[role].answers[task.parts[role].samples.rows.index(row)] == answer
        before = [each["answer"] for each in rows[: row - 1] if each["split"] == "train"]
        assert role != "train" or rows[row - 1]["answer"] not in before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"protocol": "m3ae", "answer_vocabulary": "train"}, "must be all under protocol m3ae"),
        ({"width": 33}, "multiple of `heads`"),
        ({"answer_vocabulary": "test"}, "answer_vocabulary"),
    ],
)
def test_refused_options(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        suite({**CLOSED_SET, **more})


def test_baselines_by_hand(tmp_path: Path) -> None:
    world = write_questions(tmp_path, patients=8)
    rows = [
        ("what organ", "Lung", "organ", "t"), ("what organ", "lung.", "organ", "t"),
        ("what organ?", "brain", "organ", "t"), ("which side", "left", "side", "t"),
        ("What  organ?", "brain", "organ", "s"), ("what organ then", "lung", "organ", "s"),
        ("which side", "right", "side", "s"), ("is it", "lung", "new", "s"),
    ]  # fmt: skip
    with (world / "few.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("image", "question", "answer", "kind", "patient", "split"))
        # Images of their own for every row: training and test rows must share none.
        names = [f"p{number}_0.png" for number in range(8)]
        writer.writerows((name, *row[:3], name, row[3]) for name, row in zip(names, rows, strict=True))
    few = {split: {"table": "few.csv", "patient": "patient", "where": {"split": split}} for split in "ts"}
    content = {**CLOSED_SET, "train": "t", "test": "s", "validation": None, "question_type": "kind"}
    del content["answer_type"]
    found = task_of(world, tmp_path / "out", content, tables=few).baselines()
    # Sorted: brain, left, lung. The kind `new` has the answers of all questions.
    frequent = found["most frequent answer"]
    assert frequent.chosen.tolist() == [2, 2, 1, 2]
    np.testing.assert_allclose(frequent.scores[0], [2 / 3, 1 / 3, 0])
    assert frequent.right.tolist() == [0, 1, 0, 1]
    assert found["same question"].right.tolist() == [1, 1, 0, 1]


def test_the_mean_of_members_is_the_mean_of_their_probabilities(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, {**CLOSED_SET, "epochs": 2})
    models = [TokenModel("a", seed=1), TokenModel("b", seed=2, noise=0.5)]
    dumps = [predict(task, model, tmp_path) for model in models]
    found = task.combine([], dumps)
    for seed in (0, 1):
        oracle = (dumps[0].probabilities(seed) + dumps[1].probabilities(seed)) / 2
        np.testing.assert_allclose(found.probabilities(seed), oracle)
    np.testing.assert_array_equal(found.truth, dumps[0].truth)


def test_rows_that_hang_together_choose_together(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, {**CLOSED_SET, "validation": None, "validation_share": 0.2})
    part = task.parts["train"]
    chosen = carved_out(part, 0.2)
    assert 0.2 <= chosen.mean() <= 0.35
    for values in (part.keys, part.patients.tolist()):
        mine = {value for value, each in zip(values, chosen, strict=True) if each}
        assert not mine & {value for value, each in zip(values, chosen, strict=True) if not each}
    np.testing.assert_array_equal(chosen, carved_out(part, 0.2))
    facts = task.facts()
    assert facts["train_n"] + facts["epoch_chosen_on"] == len(part)


def test_one_patient_leaves_nobody_to_choose(asked: Path, tmp_path: Path) -> None:
    content = {**CLOSED_SET, "validation": None, "epochs": 1}
    named = table("train", where={"patient": "name-of-0"})
    task = task_of(asked, tmp_path, content, tables={"train": named, "test": table("test")})
    assert task.facts()["epoch_chosen_on"] == 0
    dump = predict(task, TokenModel(), tmp_path)
    assert np.isfinite(dump.scores).all()


def test_rows_are_numbered_over_all_tables(asked: Path, tmp_path: Path) -> None:
    task = task_of(asked, tmp_path, CLOSED_SET)
    rows = rows_of(task.parts, task.questions)
    keys = [key for _, found in rows.images for key in found]
    assert len(keys) == len(set(keys))
    for role, part in task.parts.items():
        span = np.array(rows.spans[role])
        assert [keys[place] for place in rows.image_of[span]] == list(part.keys)
        assert tuple(rows.questions[place] for place in rows.question_of[span]) == task.questions[role].texts


def test_routing() -> None:
    random = np.random.default_rng(0)
    types = random.integers(0, 2, 60)
    features = (types[:, None] * 3.0 + random.normal(size=(60, 4)) * 0.1).astype(np.float32)
    learn = np.arange(30)
    np.testing.assert_array_equal(routed(features, types, learn), types)
    one = routed(features, types, np.flatnonzero(types == 1)[:5])
    assert set(one.tolist()) == {1}


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("question", "", "`question` must not be blank"),
        ("answer", "", "`answer` must not be blank"),
        ("type", "both", r"`type` must be open or closed; it is neither in 1 row"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, column: str, cell: str, message: str) -> None:
    world = write_questions(tmp_path, patients=8)
    path = world / "questions.csv"
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    rows[3][column] = cell
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    config = suite()
    with pytest.raises(ConfigError, match=message) as error:
        check_tasks(config, SuiteTables(config, base=world))
    assert "secret" not in str(error.value)


def test_shared_images_are_refused_or_told(asked: Path, tmp_path: Path) -> None:
    same = {"train": table("test"), "test": table("test")}
    content = {**CLOSED_SET, "validation": None}
    with pytest.raises(TableError, match="share patients"):
        task_of(asked, tmp_path, content, tables=same)
    task = task_of(asked, tmp_path, {**content, "shared_images": "report"}, tables=same)
    n = len(task.tested)
    assert any(f"of {n} test questions {n} are about an image" in each for each in task.facts()["warnings"])


def test_words_of_answers_are_kept_only_with_plain_names(asked: Path, tmp_path: Path) -> None:
    content = {**CLOSED_SET, "epochs": 1, "seeds": 1}
    hidden = predict(task_of(asked, tmp_path / "a", content), TokenModel(), tmp_path)
    shown = predict(task_of(asked, tmp_path / "b", content, plain=True), TokenModel(), tmp_path)
    assert hidden.vocabulary is None
    assert "red" in shown.vocabulary
