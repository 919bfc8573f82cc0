"""What every model says of every task, from disk where it is there already."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from meddistill.errors import ConfigError
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.results import TEACHER_MEAN
from meddistill.evaluation.engine.prediction_files import read_predictions, write_predictions
from meddistill.evaluation.engine.registry import AnyTask
from meddistill.evaluation.models.cache import Embeddings
from meddistill.progress import Progress

_PREDICTIONS: Final = "predictions"

Dumps = dict[tuple[str, str], Predictions]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the steps of an evaluation share."""

    tasks: Sequence[AnyTask]
    models: Sequence[Embeddings]
    folder: Path
    progress: Progress

    @property
    def teachers(self) -> list[Embeddings]:
        """The models that the teacher mean is made of."""
        return [each for each in self.models if each.model.role == "teacher"]


@dataclass(frozen=True, kw_only=True)
class PredictionSet:
    """Predictions by (model, task): of models and the teacher mean, and of the tasks' own baselines.

    `unmet_requirements` says, by the same keys, what a model lacks for a task that it has no predictions of.
    """

    dumps: Dumps
    baselines: Dumps
    unmet_requirements: Mapping[tuple[str, str], str]


def predict_all(setting: Setting) -> PredictionSet:
    """Predictions of all models on all tasks. Raises ConfigError for a model with the name of a baseline."""
    baselines = {task.name: task.baselines() for task in setting.tasks}
    _check_names(setting, baselines)
    dumps: Dumps = {}
    unmet_requirements: dict[tuple[str, str], str] = {}
    digests = {task.name: task.digest() for task in setting.tasks}
    total = len(setting.models) * len(setting.tasks)
    with setting.progress.track("evaluating", total, unit="tasks") as advance:
        for embeddings in setting.models:
            for task in setting.tasks:
                key = embeddings.model.name, task.name
                outcome = _predict(setting, task, embeddings, digests[task.name])
                if isinstance(outcome, str):
                    unmet_requirements[key] = outcome
                else:
                    dumps[key] = outcome
                advance(1)
    dumps |= _combine_all(setting, dumps)
    return PredictionSet(
        dumps=dumps, baselines=_baselines(setting, baselines), unmet_requirements=unmet_requirements
    )


def _predict(setting: Setting, task: AnyTask, embeddings: Embeddings, digest: str) -> Predictions | str:
    """One model's predictions of one task, or what it lacks for it."""
    model = embeddings.model
    path = _path(setting.folder, task.name, model.name)
    scale = model.logit_scale if task.needs_text else None
    fingerprint = fingerprint_of(digest, model.fingerprint, scale)
    return _dumped(task, path, fingerprint, partial(_made, task, embeddings))


def _made(task: AnyTask, embeddings: Embeddings) -> Predictions | str:
    requirement = task.unmet_requirement(embeddings)
    if requirement:
        return requirement
    made: Predictions = task.predict(embeddings)
    return made


def _dumped(
    task: AnyTask, path: Path, fingerprint: str, made: Callable[[], Predictions | str]
) -> Predictions | str:
    """The dump as it is there, or made now; its groups are those of the task today."""
    stored = read_predictions(path, fingerprint=fingerprint)
    new = made() if stored is None else stored
    if isinstance(new, str):
        return new
    dump: Predictions = task.grouped(new)
    if stored is None or dump.groups != stored.groups:
        write_predictions(dump, path, fingerprint=fingerprint)
    return dump


def _combine_all(setting: Setting, dumps: Dumps) -> Dumps:
    """The teacher mean's predictions by (TEACHER_MEAN, task), where two teachers at least can do the task."""
    found: Dumps = {}
    for task in setting.tasks:
        members = [each for each in setting.teachers if (each.model.name, task.name) in dumps]
        if len(members) < 2:
            continue
        path = _path(setting.folder, task.name, TEACHER_MEAN)
        scales = [each.model.logit_scale for each in members] if task.needs_text else []
        fingerprint = fingerprint_of(task.digest(), *(each.model.fingerprint for each in members), *scales)
        made = partial(task.combine, members, [dumps[each.model.name, task.name] for each in members])
        dump = _dumped(task, path, fingerprint, made)
        if not isinstance(dump, str):
            found[TEACHER_MEAN, task.name] = dump
    return found


def _check_names(setting: Setting, baselines: Mapping[str, Mapping[str, Predictions]]) -> None:
    taken = {each.model.name for each in setting.models} | {TEACHER_MEAN}
    clashes = {task: sorted(taken.intersection(named)) for task, named in baselines.items()}
    rules = [
        f"`models` must not have the name of a baseline of task {task}; got {', '.join(clash)}. Rename."
        for task, clash in clashes.items()
        if clash
    ]
    ConfigError.raise_any("evaluation", rules)


def _baselines(setting: Setting, of_task: Mapping[str, Mapping[str, Predictions]]) -> Dumps:
    """Predictions of the tasks' own baselines by (name, task); made only where they are not on disk."""
    dumps: Dumps = {}
    for task in setting.tasks:
        baselines = of_task[task.name]
        if not baselines:
            continue
        with setting.progress.track(f"{task.name}: baselines", len(baselines), unit="models") as advance:
            for name in baselines:
                path = _path(setting.folder, task.name, name)
                fingerprint = fingerprint_of(task.digest(), "baseline", *task.of_baseline(name))
                dump = _dumped(task, path, fingerprint, partial(baselines.__getitem__, name))
                if not isinstance(dump, str):
                    dumps[name, task.name] = dump
                advance(1)
    return dumps


def _path(folder: Path, task: str, model: str) -> Path:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", model)
    if safe != model:
        safe += "-" + hashlib.sha256(model.encode()).hexdigest()[:8]
    return folder / _PREDICTIONS / task / f"{safe}.parquet"


def fingerprint_of(*parts: object) -> str:
    """Hash that changes with any of the parts."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
