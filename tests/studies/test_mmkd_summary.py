"""The tables of the MMKD-CLIP study from predictions whose answers are known."""

import numpy as np
import pytest
import yaml
from studies.mmkd_arms import TEACHERS
from studies.mmkd_summary import BEST, STUDENT, Scores

from meddistill.evaluation.engine.prediction_files import write_predictions
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions

SEEDS = (0, 1)
TASKS = ("first", "second")
PATIENTS = 60
FIRST, SECOND = list(TEACHERS)[:2]
# Share of right answers of each model on both tasks, by seed.
SHARES = {
    "student": {0: (0.9, 0.7), 1: (0.8, 0.6)},
    "alone-ab12": {0: (0.7, 0.7)},
    FIRST: dict.fromkeys(SEEDS, (0.9, 0.5)),
    SECOND: dict.fromkeys(SEEDS, (0.6, 0.8)),
}


def predictions(share: float) -> ClassPredictions:
    """Half of the patients of each class; the first `share` of both halves is right."""
    truth = np.repeat([0, 1], PATIENTS // 2)
    right = np.tile(np.arange(PATIENTS // 2) < round(share * PATIENTS / 2), 2)
    said = np.where(right, truth, 1 - truth)
    return ClassPredictions(
        classes=("a", "b"),
        truth=truth,
        scores=np.eye(2)[said],
        rows=np.arange(1, PATIENTS + 1),
        samples=("",) * PATIENTS,
        patients=np.arange(PATIENTS),
        modalities=("ct",) * PATIENTS,
        settings=("",) * PATIENTS,
        seeds=np.zeros(PATIENTS, dtype=np.int64),
    )


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Scores:
    out = tmp_path_factory.mktemp("study")
    tasks = [{"name": name, "kind": "zero_shot", "table": "test", "classes": ["a", "b"]} for name in TASKS]
    suite = {"name": "study", "tables": {"test": {"table": "t.csv", "image": "image"}}, "tasks": tasks}
    (out / "suite.yaml").write_text(yaml.safe_dump({**suite, "bootstrap": {"resamples": 200}}))
    for model, by_seed in SHARES.items():
        for seed, shares in by_seed.items():
            for task, share in zip(TASKS, shares, strict=True):
                path = out / f"mmkd_{seed}" / "evaluation" / "predictions" / task / f"{model}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_predictions(predictions(share), path, fingerprint="")
    return Scores(out, SEEDS)


def test_a_model_has_the_mean_over_tasks_and_seeds(scores: Scores) -> None:
    assert set(scores.models) == {STUDENT, "alone", FIRST, SECOND}
    assert scores.mean(STUDENT)[0] == pytest.approx((0.9 + 0.7 + 0.8 + 0.6) / 4)
    assert scores.tasks_of(STUDENT).tolist() == pytest.approx([0.85, 0.65])
    assert scores.chance.tolist() == [0.5, 0.5]


def test_a_lead_is_taken_on_the_seeds_that_both_have(scores: Scores) -> None:
    assert scores.seeds_of("alone") == 1
    lead = scores.mean(STUDENT, like="alone") - scores.mean("alone")
    assert lead[0] == pytest.approx(0.8 - 0.7)


def test_the_best_teacher_of_each_task_is_the_one_that_was_chosen(scores: Scores) -> None:
    scores.add_best({"first": FIRST, "second": SECOND})
    assert scores.mean(BEST)[0] == pytest.approx((0.9 + 0.8) / 2)


def test_intervals_are_over_patients_and_seeds(scores: Scores) -> None:
    """Seeds add to the spread: resamples that draw seed 1 twice have about 0.7, seed 0 twice about 0.8."""
    both, one = scores.mean(STUDENT)[1:], scores.mean(STUDENT, like="alone")[1:]
    assert both.std() > 1.2 * one.std()
    assert one.mean() == pytest.approx(0.8, abs=0.02)
    low, high = (float(part) for part in scores.interval(scores.mean(STUDENT))[7:-1].split(" to "))
    assert low < 0.75 < high
    assert scores.mean(FIRST).std() > 0
    assert np.ptp(scores.mean(STUDENT) - scores.mean(STUDENT)) == 0
