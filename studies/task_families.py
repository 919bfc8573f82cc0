"""All families of tasks on real images: the student of the MMKD-CLIP study beside its teachers.

    python -m studies.task_families --data FOLDER --study runs/mmkd_clip --out runs/families

FOLDER and the study are as `studies/mmkd_clip.py` has them; its student (`--arm`, seed 0) and its teachers
are judged by the code behind `meddistill evaluate MODEL… --suite SUITE`. What is done is not done again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from meddistill.evaluation.base.results import Result, Results
from meddistill.progress import SilentProgress
from meddistill.standalone.evaluate import evaluate_models
from meddistill.standalone.request import parse_request
from studies.mmkd_arms import TEACHERS, teacher_entry
from studies.real_data import CLASSES, COLUMNS, Lab
from studies.tables import table

SPLITS: Final = ("train", "val", "test")
ROLES: Final = {"train": "{}_train", "validation": "{}_val", "test": "{}_test"}
OUTLINED: Final = ("lungs", "us_nerve")
SHOTS: Final = [1, 2, 4, 8, 16]


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, and print the main metric of every model and task with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--arm", default="long_mmkd")
    parser.add_argument("--teachers", nargs="+", choices=list(TEACHERS), default=list(TEACHERS))
    options = parser.parse_args(arguments)
    lab = Lab(options.data, options.out)
    lab.write_labels()
    path = lab.write("families.yaml", suite(lab))
    teachers = lab.write("teachers.yaml", {"teachers": _teachers(options.study, options.teachers)})
    models = [f"student={options.study / f'{options.arm}_0' / 'student'}", str(teachers)]
    question = parse_request(models, path)
    results, _ = evaluate_models(
        question, out=options.out / "judged", examples=False, progress=SilentProgress()
    )
    print(_table(results))


def suite(lab: Lab) -> dict[str, Any]:
    """One or two tasks of every family that the images allow."""
    tables: dict[str, Any] = {}
    for name, file in (("labels", lab.out / "classification.csv"), ("bags", lab.data / "diagnosis.csv")):
        tables |= _splits(lab, name, file)
    tables |= _splits(lab, "masks", lab.data / "segmentation.csv")
    tables |= _splits(lab, "questions", lab.data / "vqa.csv", source="official")
    tables["captions"] = {
        "table": str(lab.data / "pairs.csv"),
        **COLUMNS,
        "text": "text",
        "where": {"split": "test", "source": "caption"},
    }
    tables["slices"] = {
        "table": str(lab.data / "survival_images.csv"),
        "image": "image",
        "patient": "patient_id",
        "patients": {"table": str(lab.data / "survival.csv"), "patient": "patient_id"},
    }
    return {"name": "families", "tables": tables, "tasks": _tasks()}


def _teachers(study: Path, names: Sequence[str]) -> dict[str, Any]:
    """Entries of a file of models; what stands beside a teacher's place is as in the study's own recipes."""
    places = {name: f"local-dir:{(study / f'teacher_{name}' / 'student').resolve()}" for name in names}
    return {name: {**teacher_entry(name), "model": place} for name, place in places.items()}


def _splits(lab: Lab, name: str, file: Path, **where: str) -> dict[str, Any]:
    columns = {each: value for each, value in COLUMNS.items() if name != "questions" or each != "modality"}
    content = {"table": str(file), "root": str(lab.data), **columns}
    return {f"{name}_{split}": {**content, "where": {"split": split, **where}} for split in SPLITS}


def _roles(name: str) -> dict[str, str]:
    return {role: pattern.format(name) for role, pattern in ROLES.items()}


def _tasks() -> list[dict[str, Any]]:
    tumour, grade = {"task": "lgg_tumour_present"}, {"task": "lgg_grade"}
    points = [{"sensitivity": 0.95}, {"youden": True}]
    labels = list(CLASSES["lgg_tumour_present"])
    columns = {"question": "question", "answer": "answer", "answer_type": "answer_type"}
    questions = {**columns, "question_type": "question_type", "shared_images": "report"}
    return [
        {
            "name": "tumour_zero_shot",
            "kind": "zero_shot",
            "table": "labels_test",
            "validation": "labels_val",
            "where": tumour,
            "classes": CLASSES["lgg_tumour_present"],
        },
        {
            "name": "tumour_probe",
            "kind": "linear_probe",
            **_roles("labels"),
            "where": tumour,
            "positive": labels[-1],
            "operating_points": points,
            "shots": SHOTS,
            "seeds": 3,
        },
        {
            "name": "cells_probe",
            "kind": "linear_probe",
            **_roles("labels"),
            "where": {"task": "wbc_type"},
            "shots": SHOTS,
            "seeds": 3,
        },
        {"name": "captions", "kind": "retrieval", "table": "captions"},
        {"name": "questions", "kind": "vqa_closed_set", **_roles("questions"), **questions},
        {
            "name": "questions_zero_shot",
            "kind": "vqa_zero_shot",
            "train": "questions_train",
            "test": "questions_test",
            "candidates": "by_type",
            **questions,
        },
        {
            "name": "survival",
            "kind": "survival",
            "table": "slices",
            "time": "time_months",
            "clinical": ["age", "sex", "grade"],
            "train_overlap": "report",
        },
        {
            "name": "grade",
            "kind": "bag_classification",
            **_roles("bags"),
            "where": grade,
            "classes": ["grade_II", "grade_III"],
            "ordinal": True,
        },
        {
            "name": "breast",
            "kind": "bag_classification",
            **_roles("bags"),
            "where": {"task": "busi_diagnosis_bag"},
        },
        *(
            {
                "name": name,
                "kind": "segmentation_probe",
                **_roles("masks"),
                "where": {"task": name},
                "foreground": [1],
                "seeds": 1,
                "epochs": 20,
            }
            for name in OUTLINED
        ),
    ]


def _table(results: Results) -> str:
    """A row a model, a column a task; a task's own baselines stand below the models."""
    rows = [["n", *(_counts(results, task.name) for task in results.tasks)]]
    for model in results.models:
        cells = [_cell(results.main(model.name, task.name)) for task in results.tasks]
        rows.append([model.name, *cells])
    return table(["", *(f"{task.name}: {task.main_metric}" for task in results.tasks)], rows)


def _counts(results: Results, task: str) -> str:
    counts = {(row.n, row.patients) for row in results.of(task=task) if row.main and row.n}
    return " or ".join(f"{n} ({patients} patients)" for n, patients in sorted(counts))


def _cell(row: Result | None) -> str:
    if row is None or row.value is None:
        return ""
    return f"{row.value:.3f}" if row.low is None else f"{row.value:.3f} ({row.low:.2f} to {row.high:.2f})"


if __name__ == "__main__":
    main()
