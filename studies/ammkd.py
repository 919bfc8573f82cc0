"""AMMKD on photographs with captions: two teachers into one light model for retrieval.

    python -m studies.ammkd --data FOLDER --encoders FOLDER --out runs/ammkd

FOLDER of `--data` holds `pairs.csv` (image, text, dataset, split, patient_id, caption_index) and its images,
as of Flickr8k; that of `--encoders` the timm folders efficientnet_lite0, _lite1 and _lite2. Both teachers
learn from the train split, the students from two of each image's five captions there; all students but the
one from scratch start from the same weights, see equally many images and differ by what
`studies/ammkd_arms.py` says. Every part is skipped when it is
done, and leaves the rank of every query in `--scores`; `--parts` and `--seeds` choose some. Options are
chosen on validation with the first seed; `--split test` is for the end. `--split medical` shows the captions
of the test split of another folder, `--medical`, whose `pairs.csv` has them where `source` says caption:
no model has learned from such images. With `--images`, `--epochs` and
`--image-size` the study is only seen to run: no figure of it means anything.
"""

import argparse
import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

from meddistill.bundle.onnx_export import ImageTower, TextTower
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.tasks.retrieval.predictions import RankPredictions
from meddistill.files import write_changed
from meddistill.progress import SilentProgress
from meddistill.standalone.evaluate import evaluate_models
from meddistill.standalone.request import parse_request
from meddistill.students.folder import load_student
from meddistill.students.size import model_size
from studies.ammkd_arms import (
    BESIDE,
    BOUNDS,
    CHOSEN,
    DISAGREEING,
    FIRST,
    SECOND,
    TEACHERS,
    arms,
    bounded,
    disagreeing_with,
    longer,
    longer_for,
    repeated,
)
from studies.ammkd_disagreement import DISAGREEMENT, write_disagreeing
from studies.ammkd_recipes import PAIRS, STORE, Recipes, Scale, medical_captions
from studies.ammkd_summary import best_bound, load_runs, overview, summarize, teacher_part
from studies.frozen_encoder import train_on_frozen
from studies.rank_tables import Facts, RankTable
from studies.real_data import Lab

SEEDS: Final = (0, 1, 2)
SPLITS: Final = {"validation": "val", "test": "test"}
MEDICAL: Final = "medical"
SCORES: Final = Path("experiments/ammkd")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for and print the tables of all that there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoders", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/ammkd"))
    parser.add_argument(
        "--scores", type=Path, default=None, help=f"by default {SCORES}; of a small one in OUT"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parts = [*map(teacher_part, TEACHERS), STORE, *arms(BOUNDS[0])]
    parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--split", choices=[*SPLITS, MEDICAL], default="validation")
    parser.add_argument("--medical", type=Path, default=None, help="a folder of medical images with captions")
    parser.add_argument("--recipes", action="store_true", help="write the parts' recipes and stop")
    for name in ("--images", "--epochs", "--image-size"):
        parser.add_argument(name, type=int, default=None, help="to see that it runs")
    options = parser.parse_args(arguments)
    if options.split == MEDICAL and options.medical is None:
        parser.error("--split medical needs --medical FOLDER, the images to show")
    scale = Scale(images=options.images, epochs=options.epochs, image_size=options.image_size)
    scores = options.scores or (SCORES if scale.is_whole else options.out / "scores")
    recipes = Recipes(options.data, options.encoders, scale)
    study = Study(Lab(options.data, options.out), recipes, scores)
    study.prepare(options.medical)
    if options.recipes:
        study.write_recipes(options.parts, options.seeds)
        return
    for name in TEACHERS:
        if teacher_part(name) in options.parts:
            study.train_teacher(name, options.split)
    if STORE in options.parts:
        study.store_features()
    for seed in options.seeds:
        for name in arms(BOUNDS[0]):
            if name in options.parts and study.has(name, seed, options.split):
                study.train_student(name, seed, options.split)
    print(study.summary(options.split))


class Study:
    """The study's parts, each skipped when it is done."""

    def __init__(self, lab: Lab, recipes: Recipes, scores: Path) -> None:
        self.lab, self.recipes, self.scores = lab, recipes, scores

    def prepare(self, medical: Path | None) -> None:
        """The pairs, of a small study those of its first images, and the suites."""
        with (self.lab.data / PAIRS).open(newline="") as file:
            rows = list(csv.DictReader(file))
        for split, name in SPLITS.items():
            self.lab.write(f"suite_{split}.yaml", self.recipes.suite(name, self.recipes.table(name)))
        if medical is not None:
            self.lab.write(f"suite_{MEDICAL}.yaml", self.recipes.suite(MEDICAL, medical_captions(medical)))
        splits: dict[str, list[str]] = {}
        for row in rows:
            splits.setdefault(row["split"], []).append(row["image"])
        most = self.recipes.scale.images
        kept = {image for images in splits.values() for image in list(dict.fromkeys(images))[:most]}
        text = StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["image"] in kept)
        write_changed(self.lab.out / PAIRS, text.getvalue().encode())

    @property
    def bound(self) -> float | None:
        """The bound of min_norm that validation chooses with the first seed; None until it can."""
        return best_bound(load_runs(self.scores / "validation"), SEEDS[0])

    def has(self, name: str, seed: int, split: str) -> bool:
        """Whether a student is trained with this seed and judged on this split.

        All have the first seed and validation; those that a target stands on every seed and test, with the
        bound that validation chose; the rows beside them the first seed alone.
        """
        if seed == SEEDS[0] and (split == "validation" or name in BESIDE or name in longer(BOUNDS[0])):
            return True
        bounds = {bounded(bound) for bound in BOUNDS}
        return name in repeated(self._chosen_bound() if name in bounds else BOUNDS[0])

    def train_teacher(self, name: str, split: str) -> None:
        """A teacher, and its ranks."""
        part, recipe = teacher_part(name), self.recipes.teacher(name)
        if not self._is_done(part, SEEDS[0], split, recipe) or not self._student(part, SEEDS[0]).is_dir():
            self.lab.run(_run(part, SEEDS[0]), recipe, until="train")
            self._judge(part, SEEDS[0], split, recipe)

    def store_features(self) -> None:
        """What both teachers give for the pairs, and the second one's with half of the clusters permuted."""
        session = self.lab.run(STORE, self.recipes.store(), until="features")
        self.lab.progress.say(f"{DISAGREEING}: {DISAGREEMENT}")
        write_disagreeing(session, DISAGREEING, of=SECOND, clusters_of=FIRST)

    def train_student(self, name: str, seed: int, split: str) -> None:
        """A student, and its ranks."""
        bounded_by_choice = {disagreeing_with(CHOSEN), longer_for(CHOSEN)}
        arm = arms(self._chosen_bound() if name in bounded_by_choice else BOUNDS[0])[name]
        recipe = self.recipes.student(name, arm, seed)
        if self._is_done(name, seed, split, recipe):
            return
        session = self.lab.run(_run(name, seed), recipe, until="features" if arm.frozen else "train")
        if arm.frozen:
            train_on_frozen(session)
        self._judge(name, seed, split, recipe)

    def write_recipes(self, parts: Sequence[str], seeds: Sequence[int]) -> None:
        """The recipes alone, for `meddistill check`; before validation has chosen with the largest bound."""
        found: dict[str, dict[str, Any]] = {
            **{_run(teacher_part(name), SEEDS[0]): self.recipes.teacher(name) for name in TEACHERS},
            STORE: self.recipes.store(),
        }
        bound = self.bound or BOUNDS[-1]
        for seed in seeds:
            chosen = arms(bound) if seed == SEEDS[0] else repeated(bound)
            found |= {
                _run(name, seed): self.recipes.student(name, arms(bound)[name], seed) for name in chosen
            }
        for name, recipe in found.items():
            if name.rpartition("_seed")[0] in parts or name in parts:
                self.lab.write(f"{name}.yaml", {"name": name, **recipe})

    def summary(self, split: str) -> str:
        """The tables of a split, also kept beside the ranks."""
        runs = load_runs(self.scores / split)
        if not runs:
            return f"No part has been judged on {split} yet."
        text = overview(runs) if split == MEDICAL else summarize(runs, bound=self.bound)
        (self.scores / f"summary_{split}.md").write_text(f"{text}\n")
        return text

    def _chosen_bound(self) -> float:
        bound = self.bound
        if bound is None:
            msg = (
                f"`{self.scores / 'validation'}` must hold the ranks of min_norm with every bound; it does "
                "not. Run these parts on validation first, with the first seed."
            )
            raise SystemExit(msg)
        return bound

    def _is_done(self, part: str, seed: int, split: str, recipe: dict[str, Any]) -> bool:
        """Whether a part's ranks are there and belong to its recipe."""
        path = self._ranks(part, seed, split)
        return path.is_file() and RankTable.load(path).facts.recipe == self.recipes.digest(recipe)

    def _judge(self, part: str, seed: int, split: str, recipe: dict[str, Any]) -> None:
        student = self._student(part, seed)
        asked = parse_request([f"student={student}"], self.lab.out / f"suite_{split}.yaml")
        folder = self.lab.out / "evaluations" / split / _run(part, seed)
        evaluate_models(asked, out=folder, examples=False, progress=SilentProgress())
        (path,) = (folder / "predictions" / "retrieval").glob("*.parquet")
        dump = read_predictions(path)
        if not isinstance(dump, RankPredictions):
            msg = f"`{path}` must hold ranks; it does not. Delete the folder and run the part again."
            raise TypeError(msg)
        facts = _facts(student, self.recipes.digest(recipe))
        RankTable.of(dump, facts).save(self._ranks(part, seed, split))

    def _student(self, part: str, seed: int) -> Path:
        return self.lab.out / _run(part, seed) / "student"

    def _ranks(self, part: str, seed: int, split: str) -> Path:
        return self.scores / split / f"{part}_seed{seed}.csv"


def _run(part: str, seed: int) -> str:
    return f"{part}_seed{seed}"


def _facts(folder: Path, recipe: str) -> Facts:
    """With gradients: without them torch's attention takes a path that is not counted."""
    student = load_student(folder)
    side, context = student.input.height, student.context_length
    with FlopCounterMode(display=False) as counter:
        ImageTower(student)(torch.zeros(1, 3, side, side))
        TextTower(student)(torch.ones(1, context, dtype=torch.int64))
    parameters = model_size(student).parameters
    return Facts(recipe=recipe, parameters=parameters, multiply_adds=counter.get_total_flops() // 2)


if __name__ == "__main__":
    main()
