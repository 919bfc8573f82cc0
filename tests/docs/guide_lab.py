"""What the guides' folder holds: tables of procedural images, tiny teachers under the guides' names."""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from guide_blocks import ROOT, blocks

import tiny_teachers
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from recipe_data import RESNET

PAIRS = ("image", "text", "modality", "patient_id", "split")
LABELS = ("image", "modality", "finding", "patient_id", "split")
PHANTOM = PhantomConfig(samples=120, modalities=("xray", "ct", "mri", "histology"))
# A model a library, in the library's own format.
TEACHERS = {
    "radiology": lambda folder: tiny_teachers.save_open_clip(folder, seed=1),
    "microscopy": lambda folder: tiny_teachers.save_open_clip(folder, seed=2),
    "biomedclip": tiny_teachers.save_open_clip_with_bert,
    "slides": tiny_teachers.save_clip,
    "rad-dino": tiny_teachers.save_dinov2,
    "bert": tiny_teachers.save_bert,
    "uni": tiny_teachers.save_timm,
    "graphs": tiny_teachers.save_onnx,
    "pmc_clip": tiny_teachers.save_pmc_clip,
    "medclip": tiny_teachers.save_medclip,
}


def prepare(folder: Path) -> None:
    """Tables, images, teachers, `suite.yaml` and `mine.yaml` of docs/your-own-data.md."""
    generate(folder, PHANTOM)
    _write_tables(folder)
    for name, save in TEACHERS.items():
        save(folder / "teachers" / name)
    shutil.copy(_dicom(), folder / "scan.dcm")
    guide = {block.file: block.content for block in blocks(ROOT / "docs" / "your-own-data.md") if block.file}
    (folder / "suite.yaml").write_text(guide["suite.yaml"])
    (folder / "mine.yaml").write_text(yaml.safe_dump(quick(yaml.safe_load(guide["mine.yaml"]))))


def quick(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A guide's recipe with a student that costs nothing and one epoch a stage; nothing else is changed."""
    stages = [{**stage, "epochs": 1, "batch_size": 16} for stage in recipe["stages"]]
    return {**recipe, "student": dict(RESNET), "stages": stages}


def _write_tables(folder: Path) -> None:
    with (folder / "pairs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name, columns in (("pairs", PAIRS), ("labels", LABELS), ("unsplit", PAIRS[:-1])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


def _dicom() -> Path:
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("CT_small.dcm", download=False)))
