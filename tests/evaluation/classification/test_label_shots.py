"""Few labels for a probe of several labels: which rows are drawn, what is fitted, what is told."""

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_world import ColourModel, suite, table, write_world
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.registry import AnyTask, build_task
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.score_predictions import VALIDATION
from meddistill.evaluation.tasks.classification.shots import one_row_a_label, shots_of, shots_setting
from meddistill.progress import SilentProgress

NAMES = ["red", "green", "warm"]
PROBE = {"kind": "linear_probe_multilabel", "labels": NAMES, "label": "findings"}
ROLES = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and green are warm as well; blue is none of the labels."""
    folder = write_world(tmp_path_factory.mktemp("shots"), patients=48)
    with (folder / "table.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row["findings"] = "" if row["label"] == "blue" else f"{row['label']}|warm"
    with (folder / "table.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def _task(world: Path, **content: Any) -> AnyTask:
    config = suite(tasks=[{"name": "one", **PROBE, "train": "train", "test": "test", **content}])
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    return build_task(config.tasks[0], parts, SampleNames(world, examples=True))


def _draws(task: AnyTask) -> dict[tuple[str, int], set[int]]:
    truth = task.truth(task.parts["train"])  # type: ignore[attr-defined]
    return {(words, seed): set(rows.tolist()) for words, seed, rows in task._draws(truth)}  # type: ignore[attr-defined]


def test_rows_stand_once_for_each_label_or_for_none() -> None:
    truth = np.array([[1, 0, 1], [0, 0, 0], [-1, 1, -1], [-1, 0, 0]])
    rows, labels = one_row_a_label(truth, ["a", "b", "c"])
    assert list(zip(rows.tolist(), labels, strict=True)) == [
        (0, "a"), (0, "c"), (1, ""), (2, "b"), (3, ""),
    ]  # fmt: skip


def test_every_label_has_its_shots_and_so_has_none_of_them(world: Path) -> None:
    task = _task(world, shots=[1, 2, 4], seeds=3)
    truth = task.truth(task.parts["train"])  # type: ignore[attr-defined]
    draws = _draws(task)
    for shots, seed in itertools.product((1, 2, 4), range(3)):
        chosen = truth[sorted(draws[shots_setting(shots, "label"), seed])]
        assert (chosen.sum(axis=0) >= shots).all()
        assert (chosen.max(axis=1) == 0).sum() == shots
        assert len(chosen) <= 4 * shots
    for seed in range(3):
        assert draws["1 shot a label", seed] < draws["2 shots a label", seed] < draws["4 shots a label", seed]
    assert len({frozenset(draws["1 shot a label", seed]) for seed in range(3)}) > 1
    assert draws["", 0] == set(range(len(truth)))
    assert shots_of("4 shots a label") == 4


def test_fractions_are_of_patients_nested_and_lose_no_label(world: Path) -> None:
    task = _task(world, fractions=[1, 0.5, 0.05], seeds=2)
    truth = task.truth(task.parts["train"])  # type: ignore[attr-defined]
    patients = np.array(task.parts["train"].samples.patients)
    draws = _draws(task)
    for seed in range(2):
        small, half = (draws[f"{share} % of training patients", seed] for share in (5, 50))
        assert small < half < draws["", 0]
        assert truth[sorted(small)].any(axis=0).all()
        for rows in (small, half):
            owners = set(patients[sorted(rows)])
            assert rows == {row for row, patient in enumerate(patients) if patient in owners}


def test_a_draw_is_one_regression_a_label_on_its_rows(world: Path, tmp_path: Path) -> None:
    task = _task(world, shots=[4], seeds=2, default_c=0.7)
    model = ColourModel(noise=0.3)
    found = task.predict(Embeddings(model, folder=tmp_path, progress=SilentProgress()))
    rows = sorted(_draws(task)["4 shots a label", 1])
    train, test = (
        model.embed_images(task.parts[role].samples, advance=lambda _: None).astype(np.float64)
        for role in ("train", "test")
    )
    train, truth = train[rows], task.truth(task.parts["train"])[rows]  # type: ignore[attr-defined]
    spread = np.sqrt(np.square(train - train.mean(axis=0)).mean())
    mine = found.scores[(np.array(found.settings) == "4 shots a label") & (found.seeds == 1)]
    for column in range(len(NAMES)):
        oracle = LogisticRegression(C=0.7 / spread**2, max_iter=10_000, tol=1e-8).fit(train, truth[:, column])
        np.testing.assert_allclose(mine[:, column], oracle.predict_proba(test)[:, 1], atol=2e-3)


@pytest.mark.parametrize("change", [{"shots": [2, 2]}, {"shots": [0]}, {"fractions": [0.5, 0.5]}])
def test_refused_numbers(world: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"differ from one another|greater than or equal to 1"):
        _task(world, **change)


@pytest.fixture(scope="module")
def judged(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, LabelPredictions]:
    tasks = [{"name": "probe", **PROBE, **ROLES, "shots": [1, 100], "fractions": [0.5, 0.2], "seeds": 2,
              "grid": [0.01, 1.0], "operating_points": [{"youden": True}]}]  # fmt: skip
    config = suite(tasks=tasks, tables={split: table(split) for split in ROLES.values()})
    folder = tmp_path_factory.mktemp("out")
    models = [ColourModel(noise=0.6), ColourModel("sharp", "teacher", noise=0.3, seed=1),
              ColourModel("blurred", "teacher", noise=0.9, seed=2)]  # fmt: skip
    found = evaluate(models, config, base=world, folder=folder, progress=SilentProgress())
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    task = build_task(config.tasks[0], parts, SampleNames(folder, examples=True))
    return found, task.predict(Embeddings(models[0], folder=folder, progress=SilentProgress()))


def test_settings_are_averaged_over_seeds_and_equal_scikit_learns(
    judged: tuple[Results, LabelPredictions],
) -> None:
    results, dump = judged
    rows = {(row.metric, row.setting): row for row in results.of(model="student") if not row.modality}
    settings = ("", "20 % of training patients", "1 shot a label", "100 shots a label")
    for setting, (metric, oracle) in itertools.product(
        settings, (("auc", roc_auc_score), ("mean_average_precision", average_precision_score))
    ):
        of_seeds = [
            np.mean([oracle(fit.truth[:, column], fit.scores[:, column]) for column in range(3)])
            for fit in dump.of_setting(setting)._fits()
        ]
        row = rows[metric, setting]
        assert len(of_seeds) == row.seeds == 2
        assert row.value == pytest.approx(np.mean(of_seeds), abs=1e-6)
        assert row.spread == pytest.approx(np.std(of_seeds, ddof=1), abs=1e-6)
        assert (row.n, row.main) == (24, metric == "auc" and not setting)
    assert VALIDATION not in {setting for _, setting in rows}
    held = rows["threshold", "warm: highest Youden index, threshold from validation"]
    assert (held.seeds, held.n) == (2, 24)
    assert rows["ece", ""].seeds == 2
    assert any("fewer training images than 100 shots of red (" in each for each in results.warnings)


def test_the_teacher_mean_and_the_main_metric_go_the_same_way(
    judged: tuple[Results, LabelPredictions],
) -> None:
    results, _ = judged
    for model in ("student", "sharp", "blurred", "teacher mean"):
        row = results.main(model, "probe")
        assert row is not None
        assert row.low <= row.value <= row.high
        assert any(each.setting == "1 shot a label" for each in results.of(model=model))
    assert {each.label for each in results.exhibits if each.kind == "roc"} == {*NAMES, "macro"}
