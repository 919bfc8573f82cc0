"""Every model on every task: predictions, numbers from them, differences, agreement, examples."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from meddistill.data.decoded import DECODED, DecodedImages
from meddistill.errors import ConfigError
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import TEACHER_MEAN, Results, RetrievalExample
from meddistill.evaluation.base.score import Score
from meddistill.evaluation.engine.agreement import agreement_of
from meddistill.evaluation.engine.collect import ResultCollector, versions
from meddistill.evaluation.engine.compare import ComparisonInputs, compare_models, too_few_resamples
from meddistill.evaluation.engine.export import write_exports
from meddistill.evaluation.engine.facts import (
    baseline_facts,
    dump_warnings,
    model_facts,
    task_facts,
    task_warnings,
)
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.run_predictions import PredictionSet, Setting, predict_all
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Embedder
from meddistill.evaluation.tasks.retrieval.examples import retrieval_examples
from meddistill.evaluation.tasks.retrieval.task import Retrieval
from meddistill.progress import Progress

RULE: Final = (
    "Intervals are percentiles over resamples of patients (Poisson bootstrap): all rows of a patient "
    "together, the same resamples for every model and for tasks that share patients. Means over classes run "
    "over the classes present (F1: present or predicted). A resample on which a metric is not defined is "
    "left out and counted; when fewer than half remain, or with one patient, there is no interval. "
    "Differences are paired, on the same resamples; p values are two-sided, from the share of resamples on "
    "the other side of zero, and corrected by Holm over all tasks and other models."
)
_FEATURES: Final = "features"


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
    """Evaluate all models on all tasks of a suite and write `results.json`.

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
        Whether predictions may hold masks and the words of answers; ids of samples they never do.

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
    setting = Setting(tasks=tasks, models=embeddings, folder=folder, progress=progress)
    results = _results(setting, suite, predict_all(setting), row_notes=tables.row_notes)
    results.save(folder)
    write_exports(results, folder)
    return results


def _results(
    setting: Setting, suite: SuiteConfig, prediction_set: PredictionSet, *, row_notes: Sequence[str]
) -> Results:
    rows = _score_all(setting, suite, prediction_set)
    facts = [task.facts() for task in setting.tasks]
    # Embeds all images, so that the models' facts are known.
    agreement = agreement_of(setting, prediction_set.dumps)
    models = model_facts(setting)
    comparison_inputs = ComparisonInputs(
        scores=rows.main,
        dumps=prediction_set.dumps,
        roles=rows.roles,
        pretraining={each.name: each.pretraining_data for each in models},
        tasks=setting.tasks,
        config=suite.bootstrap,
    )
    pairs = compare_models(comparison_inputs, Resampler(suite.bootstrap), least=suite.min_group_size)
    everything = {**prediction_set.dumps, **prediction_set.baselines}
    return Results(
        suite=suite.name,
        suite_sha256=hashlib.sha256(suite.model_dump_json().encode()).hexdigest(),
        resamples=suite.bootstrap.resamples,
        seed=suite.bootstrap.seed,
        level=suite.bootstrap.level,
        rule=RULE,
        versions=versions(),
        models=(*models, *baseline_facts(prediction_set.baselines)),
        tasks=tuple(task_facts(task, own) for task, own in zip(setting.tasks, facts, strict=True)),
        results=rows.results,
        **vars(pairs),
        agreement=tuple(agreement),
        examples=tuple(_examples(setting)),
        exhibits=tuple(each for key, dump in everything.items() for each in dump.exhibits(*key)),
        warnings=(
            *row_notes,
            *task_warnings(setting.tasks, facts),
            *dump_warnings(everything),
            *too_few_resamples(comparison_inputs, pairs.differences),
        ),
    )


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


def _score_all(setting: Setting, suite: SuiteConfig, prediction_set: PredictionSet) -> ResultCollector:
    dumps, unmet = prediction_set.dumps, prediction_set.unmet_requirements
    resampler = Resampler(suite.bootstrap)
    rows = ResultCollector(suite.bootstrap, setting.tasks)
    named: list[tuple[str, Any]] = [(each.model.name, each.model.role) for each in setting.models]
    if any(model == TEACHER_MEAN for model, _ in dumps):
        named.append((TEACHER_MEAN, "ensemble"))
    with setting.progress.track("resampling", len(named) * len(setting.tasks), unit="tasks") as advance:
        for name, role in named:
            for task in setting.tasks:
                dump = dumps.get((name, task.name))
                scores: list[Score] | None = None if dump is None else dump.metrics(resampler)
                rows.add(name, role, task, scores, unmet=unmet.get((name, task.name), ""))
                advance(1)
            rows.add_mean(name, role)
    by_name = {task.name: task for task in setting.tasks}
    for (name, task_name), dump in prediction_set.baselines.items():
        rows.add(name, "baseline", by_name[task_name], dump.metrics(resampler))
    return rows


def _examples(setting: Setting) -> list[RetrievalExample]:
    tasks = [task for task in setting.tasks if isinstance(task, Retrieval)]
    models = [each for each in setting.models if each.has_text]
    return [example for task in tasks for each in models for example in retrieval_examples(task, each)]
