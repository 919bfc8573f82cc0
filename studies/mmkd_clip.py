"""MMKD-CLIP on real images: nine teachers into one student, beside its alternatives.

    python -m studies.mmkd_clip --data FOLDER --out runs/mmkd_clip

FOLDER is as `studies/real_data.py` describes it. Teachers learn from two thirds of the train split's
patients, every student arm from the rest. All arms of a seed start from one contrastively pretrained student
and take the same number of optimiser steps. What is done is skipped, so that the study can be spread over
several sittings; `--arms` and `--seeds` choose a part of it. The best teachers are chosen on the validation
split.
"""

import argparse
import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meddistill.evaluation.base.results import MEAN_TASK, Results
from studies.mmkd_arms import (
    BERTS,
    CONTEXT,
    DISTILL_EPOCHS,
    ONE_SEED,
    PRETRAIN_EPOCHS,
    SHARED_VIEWS,
    STUDENT_DIM,
    STUDENT_TOWER,
    TEACHER_IMAGES,
    TEACHERS,
    VIEWS,
    architecture,
    arms,
    contrastive,
    embedding,
    teacher_entry,
)
from studies.mmkd_summary import Scores, summarize
from studies.real_data import Lab, seen_classes, test_suite, validation_suite
from studies.wordpiece import write_bert

SEEDS = (0, 1, 2)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, or the part of it that is asked for, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/mmkd_clip"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--teachers", nargs="*", choices=list(TEACHERS), default=None)
    parser.add_argument("--arms", nargs="+", default=None, help="by default all of them")
    parser.add_argument("--until", choices=("teachers", "arms", "summary"), default="summary")
    options = parser.parse_args(arguments)
    study = Study(Lab(options.data, options.out, parts=3))
    study.prepare()
    for name in TEACHERS if options.teachers is None else options.teachers:
        study.train_teacher(name)
    if options.until == "teachers":
        return
    study.pretrain(SEEDS[0])  # carries the teachers' validation, which the arms need
    for seed in options.seeds:
        study.pretrain(seed)
        for name in arms(study.best_teacher()):
            chosen = options.arms is None or name in options.arms
            if chosen and not (name.startswith(ONE_SEED) and seed != SEEDS[0]):
                study.run_arm(name, seed)
    if options.until == "summary":
        print(study.summary(options.seeds))


class Study:
    """The study's parts, each skipped when it is done."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def prepare(self) -> None:
        """Tables, suites, vocabularies and architectures."""
        self.lab.write_pairs()
        train_labels = self.lab.write_labels()
        self.lab.write("suite.yaml", test_suite(self.lab, train_labels, knn=False))
        self.lab.write("validation.yaml", validation_suite(self.lab))
        for pool, student in (("teacher", "teacher"), ("transfer", "student")):
            captions = [row["text"] for row in self._rows() if row["pool"] == pool]
            write_bert(self._bert(student), captions, context=CONTEXT, **BERTS[student])
        for name, teacher in TEACHERS.items():
            bert = str(self._bert("teacher"))
            self._config(name, architecture(teacher.tower, teacher.dim, teacher.words, bert))
        student = architecture(STUDENT_TOWER, STUDENT_DIM, "wordpiece", str(self._bert("student")))
        self._config("student", student)

    def train_teacher(self, name: str) -> None:
        """A teacher, from scratch, with the contrastive method."""
        where = TEACHERS[name].where
        wanted = {key: value if isinstance(value, list) else [value] for key, value in where.items()}
        rows = sum(all(row[key] in value for key, value in wanted.items()) for row in self._rows())
        stage = contrastive("train", epochs=round(TEACHER_IMAGES / rows), seed=0)
        self.lab.run(f"teacher_{name}", self._recipe(where, name, [stage]), until="train")

    def pretrain(self, seed: int) -> None:
        """The first stage, which the arms of a seed share; it carries the teachers' validation."""
        stage = contrastive("pretrain", epochs=PRETRAIN_EPOCHS, seed=seed)
        recipe = {
            **self._recipe({"pool": "transfer"}, "student", [stage]),
            "features": {"view_policy": VIEWS},
        }
        if seed == SEEDS[0]:
            recipe["teachers"] = {name: teacher_entry(name) for name in TEACHERS}
            recipe["evaluate"] = {"suite": "validation.yaml"}
        self.lab.run(f"pretrain_{seed}", recipe, until="evaluate" if seed == SEEDS[0] else "train")

    def validation(self) -> Results:
        """The teachers on the validation split."""
        return Results.load(self.lab.out / f"pretrain_{SEEDS[0]}" / "evaluation")

    def best_teacher(self) -> str:
        """The teacher with the best mean over tasks on the validation split."""
        found = self.validation()
        return max(TEACHERS, key=lambda name: getattr(found.main(name, MEAN_TASK), "value", None) or 0.0)

    def run_arm(self, name: str, seed: int) -> None:
        """One student."""
        self._share_features(name, seed)
        self.lab.run(f"{name}_{seed}", self._arm(name, seed), until="train")

    def summary(self, seeds: Sequence[int]) -> str:
        """The tables, once every arm that is there has been judged; also kept as `summary.md`."""
        self._evaluate(seeds)
        seen = seen_classes(self.lab.data)
        scores = Scores(self.lab.out, seeds)
        text = summarize(scores, self.validation(), seen=seen)
        (self.lab.out / "summary.md").write_text(f"{text}\n")
        return text

    def _evaluate(self, seeds: Sequence[int]) -> None:
        """Every arm that is there, and every teacher, on the test split; seeds without `mmkd` wait for it."""
        for seed in seeds:
            if not self._trained(f"mmkd_{seed}"):
                continue
            done = [name for name in arms(self.best_teacher()) if self._trained(f"{name}_{seed}")]
            others = {name: f"{name}_{seed}/student" for name in done if name != "mmkd"}
            recipe = self._arm("mmkd", seed)
            recipe["evaluate"] = {"suite": "suite.yaml", "baselines": others}
            self.lab.run(f"mmkd_{seed}", recipe, until="report" if seed == SEEDS[0] else "evaluate")

    def _arm(self, name: str, seed: int) -> dict[str, Any]:
        arm = arms(self.best_teacher())[name]
        stage = (
            embedding(seed, **arm.options)
            if arm.teachers
            else contrastive("distill", epochs=arm.options.get("epochs", DISTILL_EPOCHS), seed=seed)
        )
        student = {"init": f"pretrain_{seed}/student", "init_licence": "proprietary"}
        recipe = {
            "data": self.lab.pairs({"pool": "transfer"}),
            "student": student,
            "stages": [stage],
            "features": {
                "precision": arm.precision,
                "views": arm.views,
                "view_policy": VIEWS if arm.views == 1 else SHARED_VIEWS,
            },
            "licence_policy": "any",
        }
        if arm.teachers:
            recipe["teachers"] = {each: teacher_entry(each) for each in arm.teachers}
        return recipe

    def _recipe(self, where: dict[str, Any], name: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
        student = {"open_clip": f"{name}.json"}
        data = self.lab.pairs(where)
        return {"data": data, "student": student, "stages": stages, "licence_policy": "any"}

    def _share_features(self, name: str, seed: int) -> None:
        """Arms of one precision share the teachers' outputs: hard links to those of the first arm."""
        arm = arms(self.best_teacher())[name]
        first = "mmkd" if (arm.precision, arm.views) == ("float16", 1) else name
        source = self.lab.out / f"{first}_{SEEDS[0]}" / "features"
        target = self.lab.out / f"{name}_{seed}" / "features"
        if source.is_dir() and not target.exists() and arm.teachers:
            shutil.copytree(source, target, copy_function=os.link)

    def _trained(self, name: str) -> bool:
        return (self.lab.out / name / "student" / "open_clip_config.json").is_file()

    def _rows(self) -> list[dict[str, str]]:
        with (self.lab.out / "pairs.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def _bert(self, whose: str) -> Path:
        return self.lab.out / f"bert_{whose}"

    def _config(self, name: str, config: dict[str, Any]) -> None:
        (self.lab.out / f"{name}.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    main()
