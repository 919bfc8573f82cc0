"""Every model on every task: predictions, numbers from them, differences, agreement, examples."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from meddistill.data.datasets import together
from meddistill.data.decoded import DECODED, DecodedImages
from meddistill.data.samples import Samples
from meddistill.errors import ConfigError
from meddistill.evaluation.agreement import label_agreement, space_agreement
from meddistill.evaluation.classification.predictions import ClassPredictions
from meddistill.evaluation.classification.zero_shot import ZeroShot
from meddistill.evaluation.config import SuiteConfig
from meddistill.evaluation.dumps import read_predictions, write_predictions
from meddistill.evaluation.embeddings import Embeddings
from meddistill.evaluation.families import AnyTask, build_task
from meddistill.evaluation.predict import Embedder
from meddistill.evaluation.predictions import Predictions, SampleNames
from meddistill.evaluation.results import (
    TEACHER_MEAN,
    Agreement,
    ModelFacts,
    Results,
    RetrievalExample,
    TaskFacts,
)
from meddistill.evaluation.retrieval.examples import retrieval_examples
from meddistill.evaluation.retrieval.task import Retrieval
from meddistill.evaluation.score import Score
from meddistill.evaluation.statistics.bootstrap import Resampler
from meddistill.evaluation.tables import SuiteTables
from meddistill.evaluation.tidy import Rows, versions
from meddistill.progress import Progress

RULE: Final = (
    "Intervals are percentiles over resamples of patients (Poisson bootstrap): all rows of a patient "
    "together, the same resamples for every model and for tasks that share patients. Means over classes run "
    "over the classes present. A resample on which a metric is not defined is left out and counted; when "
    "fewer than half remain, or with one patient, there is no interval."
)
_FEATURES: Final = "features"
_PREDICTIONS: Final = "predictions"


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What the steps of an evaluation share."""

    tasks: Sequence[AnyTask]
    models: Sequence[Embeddings]
    folder: Path
    progress: Progress

    @property
    def teachers(self) -> list[Embeddings]:
        return [each for each in self.models if each.model.role == "teacher"]


def evaluate(
    models: Sequence[Embedder],
    suite: SuiteConfig,
    *,
    base: Path,
    folder: Path,
    progress: Progress,
    examples: bool = False,
    tables: SuiteTables | None = None,
) -> Results:
    """Judge all models on all tasks of a suite and write `results.json`.

    Parameters
    ----------
    models
        Student, teachers and baselines, with different names.
    base
        The folder at which the suite's relative paths start; `tables` are read from there, or given.
    folder
        Gets `features/`, `predictions/<task>/<model>.parquet` and `results.json`; what is there is used
        again where model, rows and settings are the same.
    examples
        Whether predictions may hold the samples' ids; otherwise keyed hashes stand there.

    Raises
    ------
    ConfigError
        If two models have one name, or a task's `where` keeps no rows.
    TableError
        If a table has bad rows, blank or unknown labels, or splits that share patients or images.
    NonFiniteError
        If a model gives embeddings that are not finite.
    """
    _check_names(models)
    names = SampleNames(folder, examples=examples)
    tables = tables or _read(suite, base, progress, DecodedImages(folder / DECODED))
    tasks = [build_task(config, tables.parts(config), names) for config in suite.tasks]
    embeddings = [Embeddings(model, folder=folder / _FEATURES, progress=progress) for model in models]
    setting = _Setting(tasks=tasks, models=embeddings, folder=folder, progress=progress)
    dumps = _predict_all(setting)
    rows = _score_all(setting, suite, dumps)
    facts = [task.facts() for task in tasks]
    results = Results(
        suite=suite.name,
        suite_sha256=hashlib.sha256(suite.model_dump_json().encode()).hexdigest(),
        resamples=suite.bootstrap.resamples,
        seed=suite.bootstrap.seed,
        level=suite.bootstrap.level,
        rule=RULE,
        versions=versions(),
        models=_model_facts(setting),
        tasks=tuple(_task_facts(task, found) for task, found in zip(tasks, facts, strict=True)),
        results=rows.results,
        differences=rows.differences(),
        agreement=tuple(_agreement(setting, dumps)),
        examples=tuple(_examples(setting)),
        exhibits=tuple(each for (model, task), dump in dumps.items() for each in dump.exhibits(model, task)),
        warnings=(*tables.skipped, *_warnings(tasks, facts)),
    )
    results.save(folder)
    return results


def _read(suite: SuiteConfig, base: Path, progress: Progress, decoded: DecodedImages) -> SuiteTables:
    tables = SuiteTables(suite, base=base, progress=progress, decoded=decoded)
    decoded.write()
    return tables


def _check_names(models: Sequence[Embedder]) -> None:
    counts = Counter(model.name for model in models)
    twice = [name for name, count in counts.items() if count > 1 or name == TEACHER_MEAN]
    if twice or not models:
        got = ", ".join(twice) or "no model"
        rule = (
            f"`models` must be one at least, with different names, none `{TEACHER_MEAN}`; got {got}. Rename."
        )
        subject = "evaluation"
        raise ConfigError(subject, [rule])


_Dumps = dict[tuple[str, str], Predictions]


def _predict_all(setting: _Setting) -> _Dumps:
    """Predictions by (model, task), the teacher mean's too, from disk where they are there already."""
    dumps: _Dumps = {}
    digests = {task.name: task.digest() for task in setting.tasks}
    total = len(setting.models) * len(setting.tasks)
    with setting.progress.track("evaluating", total, unit="tasks") as advance:
        for embeddings in setting.models:
            for task in setting.tasks:
                if embeddings.has_text or not task.needs_text:
                    model = embeddings.model
                    path = _path(setting.folder, task.name, model.name)
                    scale = model.logit_scale if task.needs_text else None
                    fingerprint = _fingerprint(digests[task.name], model.fingerprint, scale)
                    dump = read_predictions(path, fingerprint=fingerprint)
                    if dump is None:
                        dump = task.predict(embeddings)
                        write_predictions(dump, path, fingerprint=fingerprint)
                    dumps[model.name, task.name] = dump
                advance(1)
    return {**dumps, **_combine_all(setting, dumps)}


def _combine_all(setting: _Setting, dumps: _Dumps) -> _Dumps:
    """The teacher mean's predictions by (TEACHER_MEAN, task), where two teachers at least can do the task."""
    found: _Dumps = {}
    for task in setting.tasks:
        members = [each for each in setting.teachers if (each.model.name, task.name) in dumps]
        if len(members) < 2:
            continue
        path = _path(setting.folder, task.name, TEACHER_MEAN)
        scales = [each.model.logit_scale for each in members] if task.needs_text else []
        fingerprint = _fingerprint(task.digest(), *(each.model.fingerprint for each in members), *scales)
        dump = read_predictions(path, fingerprint=fingerprint)
        if dump is None:
            dump = task.combine(members, [dumps[each.model.name, task.name] for each in members])
            write_predictions(dump, path, fingerprint=fingerprint)
        found[TEACHER_MEAN, task.name] = dump
    return found


def _score_all(setting: _Setting, suite: SuiteConfig, dumps: _Dumps) -> Rows:
    resampler = Resampler(suite.bootstrap)
    rows = Rows(suite.bootstrap, setting.tasks)
    named: list[tuple[str, Any]] = [(each.model.name, each.model.role) for each in setting.models]
    if any(model == TEACHER_MEAN for model, _ in dumps):
        named.append((TEACHER_MEAN, "ensemble"))
    with setting.progress.track("resampling", len(named) * len(setting.tasks), unit="tasks") as advance:
        for name, role in named:
            for task in setting.tasks:
                dump = dumps.get((name, task.name))
                scores: list[Score] | None = None if dump is None else dump.metrics(resampler)
                rows.add(name, role, task, scores)
                advance(1)
            rows.add_mean(name, role)
    return rows


def _agreement(setting: _Setting, dumps: _Dumps) -> list[Agreement]:
    students = [each for each in setting.models if each.model.role == "student"]
    if not students or not setting.teachers:
        return []
    parts = _distinct_images(setting.tasks)
    modalities = [modality for samples, _ in parts for modality in samples.modalities]
    spaces = {
        each.model.name: np.concatenate([each.images(samples, keys) for samples, keys in parts])
        for each in (*students, *setting.teachers)
    }
    # An order without meaning: of a large modality only the first images are compared.
    keys = [key for _, listed in parts for key in listed]
    order = sorted(range(len(keys)), key=lambda row: hashlib.sha256(keys[row].encode()).hexdigest())
    modalities = [modalities[row] for row in order]
    found: list[Agreement] = []
    for student in (each.model.name for each in students):
        for teacher in (each.model.name for each in setting.teachers):
            pair = (spaces[student][order], spaces[teacher][order])
            found += space_agreement(student, teacher, pair, modalities)
            found += label_agreement(
                student, teacher, _zero_shot_pairs(setting.tasks, dumps, student, teacher)
            )
    return found


def _distinct_images(tasks: Sequence[AnyTask]) -> list[tuple[Samples, list[str]]]:
    """Every distinct tested image once: samples and their keys, a task at a time."""
    seen: set[str] = set()
    parts = []
    for task in tasks:
        chosen = []
        for row, key in enumerate(task.tested.keys):
            if key not in seen:
                seen.add(key)
                chosen.append(row)
        if chosen:
            parts.append((task.tested.samples.take(chosen), [task.tested.keys[row] for row in chosen]))
    return parts


def _zero_shot_pairs(
    tasks: Sequence[AnyTask], dumps: Mapping[tuple[str, str], Predictions], student: str, teacher: str
) -> list[tuple[ClassPredictions, ClassPredictions]]:
    pairs = []
    for task in tasks:
        mine, theirs = dumps.get((student, task.name)), dumps.get((teacher, task.name))
        if (
            isinstance(mine, ClassPredictions)
            and isinstance(theirs, ClassPredictions)
            and isinstance(task, ZeroShot)
        ):
            pairs.append((mine, theirs))
    return pairs


def _examples(setting: _Setting) -> list[RetrievalExample]:
    tasks = [task for task in setting.tasks if isinstance(task, Retrieval)]
    models = [each for each in setting.models if each.has_text]
    return [example for task in tasks for each in models for example in retrieval_examples(task, each)]


def _model_facts(setting: _Setting) -> tuple[ModelFacts, ...]:
    facts = [
        ModelFacts(
            name=each.model.name,
            role=each.model.role,
            fingerprint=each.model.fingerprint,
            has_text=each.has_text,
            image_dim=each.image_dim,
            logit_scale=each.model.logit_scale,
            pretraining_data=each.model.pretraining_data,
        )
        for each in setting.models
    ]
    members = setting.teachers
    if len(members) > 1:
        facts.append(
            ModelFacts(
                name=TEACHER_MEAN,
                role="ensemble",
                fingerprint=_fingerprint(*(each.model.fingerprint for each in members)),
                has_text=any(each.has_text for each in members),
                members=tuple(each.model.name for each in members),
                pretraining_data=together(each.model.pretraining_data for each in members),
            )
        )
    return tuple(facts)


def _task_facts(task: AnyTask, facts: Mapping[str, Any]) -> TaskFacts:
    own = {name: value for name, value in facts.items() if name not in ("warnings", "prompts_sha256")}
    tested = task.tested
    return TaskFacts(
        name=task.name,
        family=task.config.kind,
        main_metric=task.main,
        n=len(tested),
        patients=len(np.unique(tested.patients)),
        modalities={name: count for name, count in Counter(tested.samples.modalities).items() if name},
        in_mean=task.config.in_mean,
        datasets=task.config.dataset,
        prompts_sha256=facts.get("prompts_sha256"),
        facts=own,
    )


def _warnings(tasks: Sequence[AnyTask], facts: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{task.name}: {warning}"
        for task, found in zip(tasks, facts, strict=True)
        for warning in found.get("warnings", ())
    ]


def _path(folder: Path, task: str, model: str) -> Path:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", model)
    if safe != model:
        safe += "-" + hashlib.sha256(model.encode()).hexdigest()[:8]
    return folder / _PREDICTIONS / task / f"{safe}.parquet"


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()
