"""What the results say of models and tasks besides numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from meddistill.data.datasets import union_names
from meddistill.data.samples import UNKNOWN_PATIENT
from meddistill.evaluation.base.results import TEACHER_MEAN, ModelFacts, TaskFacts
from meddistill.evaluation.engine.registry import AnyTask
from meddistill.evaluation.engine.run_predictions import Dumps, Setting, fingerprint_of


def model_facts(setting: Setting) -> tuple[ModelFacts, ...]:
    """Every model, and the teacher mean where there are two teachers."""
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
                fingerprint=fingerprint_of(*(each.model.fingerprint for each in members)),
                has_text=any(each.has_text for each in members),
                members=tuple(each.model.name for each in members),
                pretraining_data=union_names(each.model.pretraining_data for each in members),
            )
        )
    return tuple(facts)


def baseline_facts(baselines: Dumps) -> list[ModelFacts]:
    """The tasks' own baselines, each with the tasks that it stands for."""
    tasks: dict[str, list[str]] = {}
    for name, task in baselines:
        tasks.setdefault(name, []).append(task)
    return [
        ModelFacts(name=name, role="baseline", fingerprint="", has_text=False, tasks=tuple(own))
        for name, own in tasks.items()
    ]


def task_facts(task: AnyTask, facts: Mapping[str, Any]) -> TaskFacts:
    """A task as it was run."""
    own = {name: value for name, value in facts.items() if name not in ("warnings", "prompts_sha256")}
    tested = task.tested
    return TaskFacts(
        name=task.name,
        family=task.config.kind,
        main_metric=task.main,
        n=len(tested),
        patients=len(np.unique(tested.patients)),
        modalities={name: count for name, count in Counter(tested.samples.modalities).items() if name},
        include_in_mean=task.config.include_in_mean,
        sha256=task.sha256(),
        datasets=task.config.dataset,
        prompts_sha256=facts.get("prompts_sha256"),
        facts=own,
    )


def task_warnings(tasks: Sequence[AnyTask], facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the tasks warn of, each with its name; and tables whose patients nobody named."""
    own = [
        f"{task.name}: {warning}"
        for task, known in zip(tasks, facts, strict=True)
        for warning in known.get("warnings", ())
    ]
    own += [
        f"{task.name}: tested images that a student was trained on were not refused (`train_overlap: report`)"
        for task in tasks
        if task.config.train_overlap == "report"
    ]
    nameless = dict.fromkeys(
        task.tested.table
        for task in tasks
        if any(patient.startswith(UNKNOWN_PATIENT) for patient in task.tested.samples.patients)
    )
    return own + [
        f"table {name}: no column `patient`, so that every image counts as a patient of its own; where "
        "patients have several, intervals are too narrow and splits may share patients"
        for name in nameless
    ]


def dump_warnings(dumps: Dumps) -> list[str]:
    """What predictions warn of, each with its task and model."""
    return [
        f"{task}: {model}: {warning}" for (model, task), dump in dumps.items() for warning in dump.warnings()
    ]
