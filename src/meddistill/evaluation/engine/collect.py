"""Tidy rows from scores: intervals, the mean over tasks."""

import importlib.metadata
import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError
from typing import Any, Final

import numpy as np

from meddistill import __version__
from meddistill.arrays import Ints
from meddistill.evaluation.base.bootstrap import estimate, mean_replicates
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.results import (
    ALL_ROWS,
    MEAN_FAMILY,
    MEAN_TASK,
    NOT_APPLICABLE,
    AnyRole,
    Result,
)
from meddistill.evaluation.base.score import Score, undefined_note
from meddistill.evaluation.engine.registry import AnyTask

_FEW_MEMBERS: Final = "too few members"  # of an ensemble; anything else says what it lacks itself
MEAN_METRIC: Final = "mean of main metrics"
_version: Final = cache(importlib.metadata.version)  # which parses a long file
_LIBRARIES: Final = ("numpy", "scipy", "scikit-learn", "pyarrow", "torch", "monai", "open_clip_torch")


def versions() -> dict[str, str]:
    """Versions of what the numbers were made with."""
    installed = {"meddistill": __version__, "python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            installed[library] = _version(library)
        except PackageNotFoundError:
            continue
    return installed


def library(fitted: Sequence[str] = ()) -> str:
    """What computed a number, with versions; `fitted` are distributions that a task itself works with."""
    parts = [f"meddistill {__version__}", f"numpy {np.__version__}"]
    return "; ".join([*parts, *(f"{name} {_version(name)}" for name in fitted)])


class ResultCollector:
    """Collects scores of all models and tasks and makes rows of them.

    `main` are main metrics on all rows by (model, task), with MEAN_TASK among the tasks; `roles` has the role
    of every model.
    """

    def __init__(self, config: BootstrapConfig, tasks: Sequence[AnyTask]) -> None:
        self._config, self._tasks = config, tasks
        self._results: list[Result] = []
        self.main: dict[tuple[str, str], Score] = {}
        self._modal: dict[tuple[str, str, str], Score] = {}
        self.roles: dict[str, AnyRole] = {}
        self._unmet: dict[str, dict[str, None]] = {}
        self._libraries = {task.name: library(task.libraries) for task in tasks}
        self._patients = {task.name: np.unique(task.tested.patients) for task in tasks}

    @property
    def results(self) -> tuple[Result, ...]:
        """All rows so far."""
        return tuple(self._results)

    def add(
        self, model: str, role: AnyRole, task: AnyTask, scores: Sequence[Score] | None, *, unmet: str = ""
    ) -> None:
        """Enter the scores of one model on one task; None where the requirement `unmet` is not met."""
        self.roles[model] = role
        family = task.config.kind
        if scores is None:
            reason = unmet or _FEW_MEMBERS
            self._unmet.setdefault(model, {})[reason] = None
            self._results.append(self._absent(model, task.name, family, task.main, reason=reason))
            return
        for score in scores:
            if score.main:
                self.main[model, task.name] = score
            if score.modality != ALL_ROWS:
                self._modal[model, task.name, score.modality] = score
            self._results.append(self._row(model, task.name, family, score))

    def add_mean(self, model: str, role: AnyRole) -> None:
        """Enter the unweighted mean of the main metrics of all tasks that count, on all rows and by modality.

        Resample by resample, so that tasks which share patients are not taken for independent evidence. The
        mean of a modality runs over the tasks that have rows of it.
        """
        counted = [task.name for task in self._tasks if task.config.include_in_mean]
        if not counted:
            return
        self.roles[model] = role
        for modality, tasks in self._tasks_by_modality().items():
            self._add_modal_mean(model, modality, tasks)
        scores = [self.main[model, task] for task in counted if (model, task) in self.main]
        if len(scores) < len(counted):
            reason = " and ".join(self._unmet.get(model, {}))
            self._results.append(self._absent(model, MEAN_TASK, MEAN_FAMILY, MEAN_METRIC, reason=reason))
            return
        score = _mean(scores, [self._patients[task] for task in counted], main=True)
        self.main[model, MEAN_TASK] = score
        self._results.append(self._row(model, MEAN_TASK, MEAN_FAMILY, score))

    def _tasks_by_modality(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for task in [each for each in self._tasks if each.config.include_in_mean]:
            for modality in sorted(set(task.tested.samples.modalities) - {ALL_ROWS}):
                names.setdefault(modality, []).append(task.name)
        return names

    def _add_modal_mean(self, model: str, modality: str, tasks: Sequence[str]) -> None:
        scores = [
            self._modal[model, task, modality] for task in tasks if (model, task, modality) in self._modal
        ]
        if len(scores) == len(tasks):
            patients = [self._patients_of(task, modality) for task in tasks]
            score = _mean(scores, patients, modality=modality)
            self._results.append(self._row(model, MEAN_TASK, MEAN_FAMILY, score))

    def _patients_of(self, name: str, modality: str) -> Ints:
        part = next(task.tested for task in self._tasks if task.name == name)
        mask = np.array(part.samples.modalities, dtype=object) == modality
        return part.patients[mask]

    def _row(self, model: str, task: str, family: str, score: Score) -> Result:
        interval = estimate(score.replicates, patients=score.patients, level=self._config.level)
        note = score.note if interval.value is not None else undefined_note(score.note)
        told = {name: value for name, value in vars(score).items() if name != "replicates"}
        return self._result(model, task, family, **{**told, **vars(interval), "note": note})

    def _absent(self, model: str, task: str, family: str, metric: str, *, reason: str) -> Result:
        note = NOT_APPLICABLE + reason
        return self._result(model, task, family, metric=metric, value=None, main=True, note=note)

    def _result(self, model: str, task: str, family: str, **told: Any) -> Result:
        return Result(
            model=model,
            role=self.roles[model],
            task=task,
            family=family,
            seed=self._config.seed,
            library=self._libraries.get(task, library()),
            **told,
        )


def _mean(scores: Sequence[Score], patients: Sequence[Ints], **facts: Any) -> Score:
    """The unweighted mean of several tasks' main metrics, over the `patients` of these together."""
    return Score(
        metric=MEAN_METRIC,
        replicates=mean_replicates([each.replicates for each in scores]),
        n=sum(each.n for each in scores),
        patients=len(np.unique(np.concatenate(patients))),
        **facts,
    )
