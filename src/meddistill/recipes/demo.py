"""The demo's folder: procedural images, three specialists' recipes, the student's recipe and its suite."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml
from meddistill.data.phantom.config import MODALITIES, Modality, PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.phantom.prompts import finding_task, prompts, tasks, templates
from meddistill.files import write_changed
from meddistill.progress import Progress
from meddistill.recipes.run_folder import writing_in

SPECIALISTS: Final[dict[str, tuple[Modality, ...]]] = {
    "radiology": ("xray", "ct", "mri"),
    "visible_light": ("dermatology", "histology", "endoscopy"),
    "eye_and_ultrasound": ("fundus", "oct", "ultrasound"),
}
_GRID: Final = [0.01, 0.1, 1.0, 10.0]  # the default has more values than a demo has time for
_PAIRS: Final = {"table": "data/pairs.csv", "image": "image", "patient": "patient_id", "modality": "modality"}


@dataclass(frozen=True, kw_only=True)
class DemoFolder:
    """The recipes that the demo runs; their relative paths start at `folder`."""

    folder: Path
    specialist: Path
    student: Path

    def overrides(self, name: str, *, seed: int) -> tuple[str, ...]:
        """What turns the specialists' recipe into that of one of them."""
        modalities = ", ".join(SPECIALISTS[name])
        return (f"name={name}", f"data.train.where.modality=[{modalities}]", f"stages.0.seed={seed}")

    def teacher(self, name: str) -> Path:
        """The run folder of one specialist."""
        return self.folder / "teachers" / name


def prepare_demo(folder: Path, config: PhantomConfig, *, progress: Progress) -> DemoFolder:
    """Make the images (unless they are there) and write the recipes and the suite into `folder`."""
    with writing_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with progress.track("drawing images", config.samples) as advance:
        generate(folder / "data", config, progress=lambda _done, _all: advance(1))
    packaged = files("meddistill.recipes")
    for name in ("demo.yaml", "demo_teacher.yaml"):
        write_changed(folder / name, (packaged / name).read_bytes())
    suite = dump_yaml(demo_suite())
    write_changed(folder / "suite.yaml", suite.encode())
    return DemoFolder(folder=folder, specialist=folder / "demo_teacher.yaml", student=folder / "demo.yaml")


def demo_suite() -> dict[str, Any]:
    """What student and specialists are evaluated on: modality, findings and retrieval."""
    labels = {**_PAIRS, "table": "data/classification.csv"}
    tables = {split: {**labels, "where": {"split": split}} for split in ("train", "val", "test")}
    tables["pairs"] = {**_PAIRS, "text": "text", "where": {"split": "test"}}
    findings = [finding_task(modality) for modality in MODALITIES]
    probe = {"train": "train", "test": "test", "where": {"task": findings}, "label": "label"}
    return {
        "name": "phantom",
        "tables": tables,
        "tasks": [
            *(_zero_shot(task) for task in tasks()),
            {"name": "findings_probe", "kind": "linear_probe", "validation": "val", "grid": _GRID, **probe},
            {"name": "findings_knn", "kind": "knn", **probe},
            {"name": "retrieval", "kind": "retrieval", "table": "pairs"},
        ],
    }


def _zero_shot(task: str) -> dict[str, Any]:
    return {
        "name": task,
        "kind": "zero_shot",
        "table": "test",
        "where": {"task": task},
        "label": "label",
        "classes": prompts(task),
        "templates": list(templates(task)),
    }
