"""The demo's folder: procedural images, the specialists' recipe, the student's recipe and its suite."""

from pathlib import Path
from typing import Any, Final

from meddistill.core_yaml import dump_yaml
from meddistill.data.phantom.config import MODALITIES, PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.phantom.prompts import finding_task, prompts, tasks, templates
from meddistill.errors import ConfigError
from meddistill.files import write_changed
from meddistill.progress import Progress
from meddistill.recipes.load import PACKAGED
from meddistill.recipes.run_folder import RunFolder, writing_in
from meddistill.recipes.yaml_file import read_yaml

_GRID: Final = [0.01, 0.1, 1.0]  # the default has more values than a demo has time for
_PAIRS: Final = {"table": "data/pairs.csv", "image": "image", "patient": "patient_id", "modality": "modality"}


def prepare_demo(folder: Path, config: PhantomConfig, *, progress: Progress) -> Path:
    """Make the images (unless they are there), the suite and both recipes in `folder`; the student's recipe.

    The specialists' seeds follow that of the images. Raises ConfigError for the run folder of another recipe.
    """
    recipe = read_yaml(PACKAGED / "demo.yaml")
    ConfigError.raise_any("run folder", RunFolder(folder).of_another(recipe["name"]))
    with writing_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with progress.track("drawing images", config.samples) as advance:
        generate(folder / "data", config, progress=lambda _done, _all: advance(1))
    for place, specialist in enumerate(recipe["teachers"].values()):
        specialist["set"]["stages.0.seed"] = config.seed + place + 1
    write_changed(folder / "demo.yaml", dump_yaml(recipe).encode())
    write_changed(folder / "demo_teacher.yaml", (PACKAGED / "demo_teacher.yaml").read_bytes())
    write_changed(folder / "suite.yaml", dump_yaml(demo_suite()).encode())
    return folder / "demo.yaml"


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
