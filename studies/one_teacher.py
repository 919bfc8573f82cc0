"""Does a single teacher make a student from scratch worse? A pooled CNN, a vision transformer, a CLIP.

    python -m studies.one_teacher --data FOLDER --encoder FOLDER --out runs/one_teacher

FOLDER of `--data` is as `studies/real_data.py` describes it, that of `--encoder` a timm folder with a
pretrained CNN. The train split's patients are divided in two: a vision transformer and a CLIP learn from one
half, every student from the other. All students have the same architecture, start from the same random
weights (by seed) and take the same number of steps. Every part is skipped when it is done; `--parts` and
`--seeds` choose some. Options are chosen on validation; `--split test` is for the end.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.progress import SilentProgress
from meddistill.standalone.evaluate import evaluate_models
from meddistill.standalone.request import parse_request
from studies.one_teacher_arms import (
    ALONE,
    ARMS,
    CONTEXT,
    ENCODER_SIZE,
    TEACHERS,
    architecture,
    stage,
    trained,
)
from studies.pooled import leads
from studies.real_data import Lab, test_suite, validation_suite
from studies.wordpiece import write_bert

PROBED: Final = (
    "busi_diagnosis",
    "wbc_type",
    "lgg_tumour_present",
    "medpix_modality",
    "medpix_region",
    "medpix_plane",
)
COUNTED: Final = (*(f"{name}_probe" for name in PROBED), "retrieval")
SEEDS: Final = (0, 1)
SUITES: Final = {"validation": "validation.yaml", "test": "suite.yaml"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for, then evaluate and print each arm's lead over no distillation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/one_teacher"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parts = [*(f"teacher_{name}" for name in TEACHERS), *ARMS]
    parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--split", choices=[*SUITES, "none"], default="validation")
    options = parser.parse_args(arguments)
    study = Study(Lab(options.data, options.out), options.encoder.resolve())
    study.prepare()
    for name in TEACHERS:
        if f"teacher_{name}" in options.parts:
            study.train_teacher(name)
    for seed in options.seeds:
        for arm in ARMS:
            if arm in options.parts:
                study.train_student(arm, seed)
    if options.split != "none":
        print(study.summary(options.seeds, split=options.split))


class Study:
    """The study's parts."""

    def __init__(self, lab: Lab, encoder: Path) -> None:
        self.lab, self.encoder = lab, encoder

    def prepare(self) -> None:
        """Tables, suites, the vocabulary and the architectures."""
        self.lab.write_pairs()
        labels = self.lab.write_labels()
        suites = {
            "validation.yaml": validation_suite(self.lab),
            "suite.yaml": test_suite(self.lab, labels, knn=False),
        }
        for path, suite in suites.items():
            # One image stands in train and validation under two patients: reported, the same for all arms.
            told = {"train_overlap": "report"}
            suite["tasks"] = [{**task, **told} for task in suite["tasks"] if task["name"] in COUNTED]
            self.lab.write(path, suite)
        with (self.lab.out / "pairs.csv").open(newline="") as file:
            captions = [row["text"] for row in csv.DictReader(file) if row["split"] == "train"]
        bert = self.lab.out / "bert"
        write_bert(bert, captions, width=128, layers=2, context=CONTEXT)
        for name in (*TEACHERS, "student"):
            content = json.dumps(architecture(name, bert), indent=2)
            (self.lab.out / f"{name}.json").write_text(content)

    def train_teacher(self, name: str) -> None:
        """A teacher from scratch, up to its bundle."""
        recipe = self._recipe("teacher", name, trained(name))
        self.lab.run(f"teacher_{name}", recipe, until="export")

    def train_student(self, arm: str, seed: int) -> None:
        """One student."""
        recipe = self._recipe("transfer", "student", stage(arm, seed))
        teacher = ARMS[arm].teacher
        if teacher is not None:
            recipe["teachers"] = {teacher: self._teacher(teacher)}
            recipe["features"] = {"views": ARMS[arm].views}
        self.lab.run(f"{arm}_{seed}", recipe, until="train")

    def summary(self, seeds: Sequence[int], *, split: str) -> str:
        """Evaluate the arms that all these seeds have on a split; each arm's lead over `alone`, over them."""
        made = [name for name in TEACHERS if (self.lab.out / f"teacher_{name}" / "bundle").is_dir()]
        frozen = {name: self._teacher(name) for name in ("cnn", *made)}
        entries = self.lab.write("frozen.yaml", {"teachers": frozen})
        folders = []
        there = [
            arm
            for arm in ARMS
            if all((self.lab.out / f"{arm}_{seed}" / "student").is_dir() for seed in seeds)
        ]
        for seed in seeds:
            models = [f"{arm}_student={self.lab.out / f'{arm}_{seed}' / 'student'}" for arm in there]
            question = parse_request([*models, str(entries)], self.lab.out / SUITES[split])
            folder = self.lab.out / f"{split}_{seed}"
            evaluate_models(question, out=folder, examples=False, progress=SilentProgress())
            folders.append(folder)
        suite = SuiteConfig.model_validate(yaml.safe_load((self.lab.out / SUITES[split]).read_text()))
        text = leads(folders, suite, over=f"{ALONE}_student")
        (self.lab.out / f"summary_{split}.md").write_text(f"{text}\n")
        return text

    def _recipe(self, pool: str, name: str, training: dict[str, Any]) -> dict[str, Any]:
        student = {"open_clip": f"{name}.json"}
        data = self.lab.pairs({"pool": pool})
        return {"data": data, "student": student, "stages": [training], "licence_policy": "any"}

    def _teacher(self, name: str) -> dict[str, Any]:
        """How a recipe names a teacher; the transformer as its bundle's image graph, so without texts."""
        if name == "cnn":
            config = json.loads((self.encoder / "config.json").read_text())["pretrained_cfg"]
            pixels = {"height": ENCODER_SIZE, "width": ENCODER_SIZE, "resize": "squash"}
            pixels |= {"interpolation": "bicubic", "mean": config["mean"], "std": config["std"]}
            model = f"local-dir:{self.encoder}"
            return {"kind": "timm", "model": model, "input": pixels, "licence": "Apache-2.0"}
        folder = self.lab.out / f"teacher_{name}"
        if name == "clip":
            return {"kind": "open_clip", "model": f"local-dir:{folder / 'student'}", "licence": "proprietary"}
        contract = json.loads((folder / "bundle" / "preprocessing.json").read_text())
        graph = folder / "bundle" / "onnx" / "image.onnx"
        return {"kind": "onnx", "model": str(graph), "input": contract["input"], "licence": "proprietary"}


if __name__ == "__main__":
    main()
