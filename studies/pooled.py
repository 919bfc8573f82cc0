"""Several seeds as one figure: the mean over seeds, with an interval over patients.

Resamples of patients depend on the suite's seed and the patient alone, so that they are the same for all
runs; scores are averaged over runs resample by resample. The spread between seeds is not in the interval.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meddistill.errors import UserError
from meddistill.evaluation.base.bootstrap import Estimate, Resampler, estimate, mean_replicates
from meddistill.evaluation.base.results import TEACHER_MEAN
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.suite_config import SuiteConfig
from studies.tables import table

Replicates = NDArray[np.float64]


def pooled(evaluations: Sequence[Path], suite: SuiteConfig, *, student: str = "student") -> str:
    """A Markdown table: each model's mean over tasks and seeds, and the student's lead over it."""
    tasks = [task.name for task in suite.tasks if task.include_in_mean]
    models = sorted(path.stem for path in (evaluations[0] / "predictions" / tasks[0]).iterdir())
    found = {model: _mean(evaluations, tasks, model, suite) for model in models}
    rows = []
    for model, replicates in sorted(found.items(), key=lambda item: -item[1][0]):
        lead = "" if model == student else _words(found[student] - replicates, suite, signed=True)
        name = TEACHER_MEAN if model.startswith("teacher_mean-") else model
        rows.append([name, _words(replicates, suite), lead])
    return table(["model", "mean over tasks and seeds", "student minus it"], rows)


def leads(evaluations: Sequence[Path], suite: SuiteConfig, *, over: str) -> str:
    """A Markdown table: each model's mean over tasks and seeds, its lead over one of them, and each task.

    A model that lacks a task (an encoder without texts lacks retrieval) is compared on the others.
    """
    names = [task.name for task in suite.tasks if task.include_in_mean]
    folder = evaluations[0] / "predictions"
    models = sorted({path.stem.partition("-")[0] for name in names for path in (folder / name).iterdir()})
    rows = []
    for model in models:
        tasks = [name for name in names if _dump(evaluations[0], name, model).is_file()]
        scores = [_mean(evaluations, [name], model, suite) for name in tasks]
        mean = mean_replicates(scores)
        lead = mean - _mean(evaluations, tasks, over, suite)
        cells = {name: f"{score[0]:.3f}" for name, score in zip(tasks, scores, strict=True)}
        minus = "" if model == over else _words(lead, suite, signed=True)
        rows.append([model, _words(mean, suite), minus, *(cells.get(name, "") for name in names)])
    return table(["model", "mean over tasks and seeds", f"minus {over}", *names], rows)


def _dump(evaluation: Path, task: str, model: str) -> Path:
    """A model's predictions; the names of those that are not the student end with a part of their hash."""
    folder = evaluation / "predictions" / task
    return next(iter(sorted(folder.glob(f"{model}-*.parquet"))), folder / f"{model}.parquet")


def _mean(evaluations: Sequence[Path], tasks: Sequence[str], model: str, suite: SuiteConfig) -> Replicates:
    resampler = Resampler(suite.bootstrap)
    parts = []
    for folder in evaluations:
        for task in tasks:
            dump = read_predictions(_dump(folder, task, model))
            if dump is None:
                msg = f"`{folder}` must hold predictions of {model} on {task}; it does not. Evaluate again."
                raise UserError(msg)
            parts += [score.replicates for score in dump.metrics(resampler) if score.main]
    return mean_replicates(parts)


def _words(replicates: Replicates, suite: SuiteConfig, *, signed: bool = False) -> str:
    found: Estimate = estimate(replicates, patients=2, level=suite.bootstrap.level)
    style = "{:+.3f}" if signed else "{:.3f}"
    return " ".join([style.format(found.value), f"({style.format(found.low)} to {style.format(found.high)})"])
