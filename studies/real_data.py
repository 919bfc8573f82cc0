"""A folder of real images as the studies use it: its pools, its labels, and the suite that judges.

The folder holds `pairs.csv` (image, text, source, modality, patient_id, dataset, split) and
`classification.csv` (image, task, label, modality, patient_id, dataset, split).
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from meddistill.cli.progress import make_progress
from meddistill.progress import Progress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import Step, run_recipe
from meddistill.recipes.session import Session

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


class Lab:
    """A study's folder, the data it looks at, and what runs in it."""

    def __init__(self, data: Path, out: Path, *, parts: int = 2) -> None:
        """Students learn from one of `parts` parts of the train split's patients, teachers from the rest."""
        self.data, self.out, self.parts = data.resolve(), out.resolve(), parts
        self.progress: Progress = make_progress("quiet")
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, name: str, recipe: dict[str, Any], *, until: Step) -> Session:
        """Run one recipe; what is done is skipped."""
        self.progress.say(f"--- {name}")
        path = self.write(f"{name}.yaml", {"name": name, **recipe})
        return run_recipe(load_recipe(path), self.out / name, until=until, progress=self.progress)

    def write(self, name: str, content: dict[str, Any]) -> Path:
        """Write a recipe or suite."""
        path = self.out / name
        path.write_text(yaml.safe_dump(content, sort_keys=False, width=100))
        return path

    def pool(self, row: dict[str, str]) -> str:
        """`teacher` or `transfer` for the train split, by a hash of the patient; `none` for the others."""
        if row["split"] != "train":
            return "none"
        draw = hashlib.sha256(f"pool {row['patient_id']}".encode()).digest()[0]
        return "teacher" if draw % self.parts else "transfer"

    def write_pairs(self) -> None:
        """The pairs with their pool."""
        rows = _read_csv(self.data / "pairs.csv")
        _write_csv(self.out / "pairs.csv", [{**row, "pool": self.pool(row)} for row in rows])

    def write_labels(self) -> dict[str, list[str]]:
        """The labelled images, without those of a part that an other part holds too, byte by byte.

        Parts are the splits and the pools of the train split. Of equal images the test split keeps its own,
        then validation, then the students' pool. Returns the labels of each task that the train split has: a
        probe cannot know others.
        """
        rows = [{**row, "pool": self.pool(row)} for row in _read_csv(self.data / "classification.csv")]
        images = {row["image"] for row in rows}
        digest = {name: hashlib.sha256((self.data / name).read_bytes()).digest() for name in images}
        first: dict[bytes, tuple[str, str]] = {}
        for row in sorted(rows, key=lambda row: _PARTS.index(_part(row))):
            first.setdefault(digest[row["image"]], _part(row))
        kept = [row for row in rows if first[digest[row["image"]]] == _part(row)]
        self.progress.say(f"{len(rows) - len(kept)} labelled rows left out: their image is in another part")
        _write_csv(self.out / "classification.csv", kept)
        return _labels(row for row in kept if row["split"] == "train")

    def labels_of(self, pool: str) -> dict[str, list[str]]:
        """The labels of each task that a pool of the train split has, once `write_labels` has written."""
        return _labels(row for row in _read_csv(self.out / "classification.csv") if row["pool"] == pool)

    def pairs(self, where: dict[str, Any]) -> dict[str, Any]:
        """The `data` of a recipe: the pairs that `where` picks."""
        table = {"table": "pairs.csv", "root": str(self.data), **COLUMNS, "text": "text", "where": where}
        return {"train": table}


_PARTS = [("test", "none"), ("val", "none"), ("train", "transfer"), ("train", "teacher")]


def _labels(rows: Iterable[dict[str, str]]) -> dict[str, list[str]]:
    found = {(row["task"], row["label"]) for row in rows}
    return {task: sorted(label for name, label in found if name == task) for task in CLASSES}


def _part(row: dict[str, str]) -> tuple[str, str]:
    return row["split"], row["pool"]


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def seen_classes(data: Path) -> frozenset[str]:
    """Tasks with a class whose phrase stands in a training caption that was made from a class."""
    captions = {
        row["text"]
        for row in _read_csv(data / "pairs.csv")
        if row["split"] == "train" and row["source"] == "template"
    }
    return frozenset(task for task, classes in CLASSES.items() if captions & set(classes.values()))


def test_suite(lab: Lab, train_labels: dict[str, list[str]], *, knn: bool) -> dict[str, Any]:
    """Every classification task, zero-shot and probed, and retrieval among real captions, on the test split.

    Probes and neighbours are judged on the classes that the train split has (`train_labels`).
    """
    splits = {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}}
    suite = _suite(lab, train_labels, splits)
    if knn:
        suite["tasks"][-1:-1] = [_knn(task, train_labels[task]) for task in CLASSES]
    return {"name": "real_images", **suite}


def validation_suite(lab: Lab) -> dict[str, Any]:
    """The same tasks on the validation split, of the labels that the students' pool has.

    Probes learn from that pool and choose C on the teachers'.
    """
    train = {"split": "train"}
    splits = {
        "train": {**train, "pool": "transfer"},
        "val": {**train, "pool": "teacher"},
        "test": {"split": "val"},
    }
    return {"name": "validation", **_suite(lab, lab.labels_of("transfer"), splits)}


def _suite(lab: Lab, train_labels: dict[str, list[str]], splits: dict[str, dict[str, str]]) -> dict[str, Any]:
    labels = {"table": "classification.csv", "root": str(lab.data), **COLUMNS}
    tables: dict[str, Any] = {split: {**labels, "where": where} for split, where in splits.items()}
    pairs = {"table": str(lab.data / "pairs.csv"), **COLUMNS, "text": "text"}
    tables["captions"] = {**pairs, "where": {**splits["test"], "source": "caption"}}
    tasks: list[dict[str, Any]] = []
    for task, classes in CLASSES.items():
        zero_shot = {"kind": "zero_shot", "table": "test", "where": {"task": task}, "classes": classes}
        tasks.append({"name": task, **zero_shot, "label": "label"})
        where = {"where": {"task": task, "label": train_labels[task]}, "label": "label"}
        roles = {"train": "train", "validation": "val", "test": "test"}
        tasks.append({"name": f"{task}_probe", "kind": "linear_probe", **roles, **where})
    tasks.append({"name": "retrieval", "kind": "retrieval", "table": "captions"})
    return {"tables": tables, "tasks": tasks}


def _knn(task: str, labels: list[str]) -> dict[str, Any]:
    rows = {"train": "train", "test": "test", "where": {"task": task, "label": labels}, "label": "label"}
    return {"name": f"{task}_knn", "kind": "knn", **rows, "include_in_mean": False}
