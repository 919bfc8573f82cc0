"""Three specialists into one student on real images: is it better than each, and than itself alone?

    python -m studies.real_images --data FOLDER --out runs/real_images

FOLDER holds `pairs.csv` (image, text, source, modality, patient_id, split) and `classification.csv` (image,
task, label, modality, patient_id, split). The patients of the train split are divided in two by a hash:
teachers learn from one half, every student arm from the other. Arms and seeds resume one by one. The suite
and its mean were fixed before the first run: zero-shot and linear probe of every classification task
(balanced accuracy) and retrieval among the real captions (mean recall), unweighted.
"""

import argparse
import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meddistill.cli.progress import make_progress
from meddistill.evaluation.config import SuiteConfig
from meddistill.evaluation.results import Results
from meddistill.progress import Progress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import Step, run_recipe
from studies.pooled import pooled
from studies.tables import by_task, overview

SEEDS = (0, 1, 2)
SIZE = 64
# How long the specialists learn. The first run's were cut short; see EXPERIMENTS.md.
TEACHER_EPOCHS = {
    "short": {"radiology": 12, "visible_light": 30, "microscopy": 40},
    "long": {"radiology": 32, "visible_light": 90, "microscopy": 180},
}
MODALITIES = {
    "radiology": ["xray", "ct", "mri"],
    "visible_light": ["ultrasound", "endoscopy", "fundus"],
    "microscopy": ["microscopy", "histology"],
}
TEXT = {"width": 128, "heads": 4, "layers": 3, "context_length": 64}
STUDENT = {"image_tower": "mobilenetv4_conv_small_050", "image_size": SIZE, "embed_dim": 128, "text": TEXT}
TEACHER = {
    "image_tower": "mobilenetv4_conv_small",
    "image_size": SIZE,
    "embed_dim": 256,
    "text": {**TEXT, "width": 256},
}
PRETRAIN_EPOCHS, DISTILL_EPOCHS = 6, 14
DISTILLING = {
    "objectives": {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0},
    "selection": {"kind": "random_draw"},
}
TRAINING = {"batch_size": 64, "learning_rate": 1e-3, "checkpoint_every": 100}
COLUMNS = {"image": "image", "patient": "patient_id", "modality": "modality"}

CLASSES: dict[str, dict[str, str]] = {
    "busi_diagnosis": {
        "benign": "breast ultrasound image with a benign mass",
        "malignant": "breast ultrasound image with a malignant mass",
        "normal": "breast ultrasound image without a lesion",
    },
    "covid_finding": {
        "COVID-19": "chest X-ray, COVID-19 pneumonia",
        "ARDS": "chest X-ray, acute respiratory distress syndrome",
        "SARS": "chest X-ray, SARS",
        "Pneumocystis": "chest X-ray, Pneumocystis pneumonia",
        "Streptococcus": "chest X-ray, Streptococcus pneumonia",
        "No Finding": "normal chest X-ray",
        "E.Coli": "chest X-ray, E. coli pneumonia",
        "COVID-19, ARDS": "chest X-ray, COVID-19 with acute respiratory distress syndrome",
        "Legionella": "chest X-ray, Legionella pneumonia",
    },
    "dsb_stain": {
        "fluorescence": "fluorescence microscopy image of cell nuclei",
        "purple_stain": "light microscopy image with purple-stained nuclei",
        "brightfield": "brightfield microscopy image of cells",
    },
    "lgg_tumour_present": {
        "no": "brain MRI slice without visible tumour",
        "yes": "brain MRI slice with a glioma",
    },
    "mednist_body_part": {
        "chest_ct": "chest CT slice",
        "hand_xray": "hand X-ray",
        "chest_xray": "chest X-ray",
        "abdomen_ct": "abdominal CT slice",
        "breast_mri": "breast MRI slice",
        "head_ct": "head CT slice",
    },
    "medpix_modality": {"ct": "CT image", "mri": "MRI image"},
    "medpix_plane": {"axial": "axial image", "coronal": "coronal image", "sagittal": "sagittal image"},
    "medpix_region": {
        "reproductive_and_urinary_system": "image of the reproductive and urinary system",
        "head": "image of the head",
        "thorax": "image of the thorax",
        "spine_and_muscles": "image of the spine and muscles",
        "abdomen": "image of the abdomen",
    },
    "wbc_type": {
        "lymphocyte": "microscopy image of a lymphocyte",
        "neutrophil": "microscopy image of a neutrophil",
        "monocyte": "microscopy image of a monocyte",
        "eosinophil": "microscopy image of an eosinophil",
        "basophil": "microscopy image of a basophil",
    },
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/real_images"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--teachers", choices=TEACHER_EPOCHS, default="short")
    options = parser.parse_args(arguments)
    progress = make_progress("quiet")
    study = Study(options.data.resolve(), options.out.resolve(), progress, teachers=options.teachers)
    study.write_pairs()
    study.write("suite.yaml", suite(options.data.resolve(), study.write_labels()))
    for name in MODALITIES:
        study.run(study.teacher_folder(name), study.teacher(name), until="train")
    for seed in options.seeds:
        study.run(f"alone_{seed}", study.student(seed, arm="alone"), until="train")
        study.run(study.distilled_folder(seed), study.student(seed, arm="distilled"), until="report")
    study.summarise(options.seeds)


class Study:
    """The study's folder and what runs in it."""

    def __init__(self, data: Path, out: Path, progress: Progress, *, teachers: str = "short") -> None:
        self.data, self.out, self.progress, self.teachers = data, out, progress, teachers
        out.mkdir(parents=True, exist_ok=True)

    def teacher_folder(self, name: str) -> str:
        """The run folder of a specialist."""
        return f"teacher_{name}" if self.teachers == "short" else f"teacher_{self.teachers}_{name}"

    def distilled_folder(self, seed: int) -> str:
        """The run folder of a distilled student."""
        return f"distilled_{seed}" if self.teachers == "short" else f"distilled_{self.teachers}_{seed}"

    def write(self, name: str, content: dict[str, Any]) -> Path:
        """Write a recipe or suite."""
        path = self.out / name
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=100))
        return path

    def write_pairs(self) -> None:
        """The pairs with their pool: half of the train split's patients for teachers, half for students."""
        with (self.data / "pairs.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            half = hashlib.sha256(f"pool {row['patient_id']}".encode()).digest()[0] % 2
            row["pool"] = ("teacher" if half else "transfer") if row["split"] == "train" else "none"
        _write_csv(self.out / "pairs.csv", rows)

    def write_labels(self) -> dict[str, list[str]]:
        """The labelled images, without those of a split that an other split holds too, byte by byte.

        Of equal images the test split keeps its own, then validation. Returns the labels of each task that
        the train split has: a probe cannot know others.
        """
        with (self.data / "classification.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        rank = {"test": 0, "val": 1, "train": 2}
        images = {row["image"] for row in rows}
        digest = {name: hashlib.sha256((self.data / name).read_bytes()).digest() for name in images}
        first: dict[bytes, str] = {}
        for row in sorted(rows, key=lambda row: rank[row["split"]]):
            first.setdefault(digest[row["image"]], row["split"])
        kept = [row for row in rows if first[digest[row["image"]]] == row["split"]]
        self.progress.say(f"{len(rows) - len(kept)} labelled rows left out: their image is in another split")
        _write_csv(self.out / "classification.csv", kept)
        learnt = {(row["task"], row["label"]) for row in kept if row["split"] == "train"}
        return {task: sorted(label for name, label in learnt if name == task) for task in CLASSES}

    def run(self, name: str, recipe: dict[str, Any], *, until: Step) -> None:
        """Run one recipe; what is done is skipped."""
        self.progress.say(f"--- {name}")
        path = self.write(f"{name}.yaml", {"name": name, **recipe})
        run_recipe(load_recipe(path), self.out / name, until=until, progress=self.progress)

    def summarise(self, seeds: Sequence[int]) -> None:
        """Print the tables over seeds and keep them in `summary_*.md`."""
        folders = [self.out / self.distilled_folder(seed) / "evaluation" for seed in seeds]
        runs = [Results.load(folder) for folder in folders]
        judged = SuiteConfig.model_validate(yaml.safe_load((self.out / "suite.yaml").read_text()))
        summary = f"{pooled(folders, judged)}\n\n{overview(runs)}\n\n{by_task(runs)}\n"
        (self.out / f"summary_{self.teachers}.md").write_text(summary)
        print(summary)

    def teacher(self, name: str) -> dict[str, Any]:
        """A specialist's recipe."""
        stage = {
            "name": "train",
            "method": "contrastive",
            "epochs": TEACHER_EPOCHS[self.teachers][name],
            **TRAINING,
        }
        where = {"pool": "teacher", "modality": MODALITIES[name]}
        return {"data": self._pairs(where), "student": TEACHER, "stages": [stage], "licence_policy": "any"}

    def student(self, seed: int, *, arm: str) -> dict[str, Any]:
        """The student with or without its teachers; the same architecture, data and number of steps."""
        common = {**TRAINING, "seed": seed}
        pretrain = {"name": "pretrain", "method": "contrastive", "epochs": PRETRAIN_EPOCHS, **common}
        distill = {
            "name": "distill",
            "method": "embedding",
            **DISTILLING,
            "views": "fixed",
            "epochs": DISTILL_EPOCHS,
            **common,
        }
        alone = {"name": "continue", "method": "contrastive", "epochs": DISTILL_EPOCHS, **common}
        recipe = {
            "data": self._pairs({"pool": "transfer"}),
            "student": STUDENT,
            "stages": [pretrain, distill if arm == "distilled" else alone],
            "licence_policy": "any",
        }
        if arm == "alone":
            return recipe
        return {
            **recipe,
            "teachers": {
                name: {
                    "kind": "open_clip",
                    "model": f"local-dir:{self.teacher_folder(name)}/student",
                    "modalities": modalities,
                    "licence": "proprietary",
                }
                for name, modalities in MODALITIES.items()
            },
            "evaluate": {"suite": "suite.yaml", "baselines": {"student_alone": f"alone_{seed}/student"}},
        }

    def _pairs(self, where: dict[str, Any]) -> dict[str, Any]:
        return {
            "train": {"table": "pairs.csv", "root": str(self.data), **COLUMNS, "text": "text", "where": where}
        }


def _write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def suite(data: Path, learnt: dict[str, list[str]]) -> dict[str, Any]:
    """Every classification task, zero-shot and probed, and retrieval among real captions.

    Probes and neighbours are judged on the classes that the train split has (`learnt`).
    """
    labels = {"table": "classification.csv", "root": str(data), **COLUMNS}
    tables: dict[str, Any] = {
        split: {**labels, "where": {"split": split}} for split in ("train", "val", "test")
    }
    pairs = {"table": str(data / "pairs.csv"), **COLUMNS, "text": "text"}
    tables["captions"] = {**pairs, "where": {"split": "test", "source": "caption"}}
    tasks: list[dict[str, Any]] = []
    for task, classes in CLASSES.items():
        zero_shot = {"kind": "zero_shot", "table": "test", "where": {"task": task}, "classes": classes}
        tasks.append({"name": task, **zero_shot, "label": "label"})
        where = {"where": {"task": task, "label": learnt[task]}, "label": "label"}
        splits = {"train": "train", "validation": "val", "test": "test"}
        tasks.append({"name": f"{task}_probe", "kind": "linear_probe", **splits, **where})
    for task in CLASSES:
        knn = {"kind": "knn", "train": "train", "test": "test", "in_mean": False}
        where = {"task": task, "label": learnt[task]}
        tasks.append({"name": f"{task}_knn", **knn, "where": where, "label": "label"})
    tasks.append({"name": "retrieval", "kind": "retrieval", "table": "captions"})
    return {"name": "real_images", "tables": tables, "tasks": tasks}


if __name__ == "__main__":
    main()
