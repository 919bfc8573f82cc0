"""A small world for whole runs: phantom images, three teachers of two libraries, a recipe and its suite."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.progress import SilentProgress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.pipeline import Step, run_recipe
from tiny_teachers import save_clip, save_open_clip

MODALITIES = ("xray", "ct", "histology", "dermatology")
SAMPLES = 120
TEACHERS = ("radiology", "microscopy", "general")
STAGES = ("pretrain", "distill")
PAIRS = {"table": "data/pairs.csv", "image": "image", "patient": "patient_id", "modality": "modality"}
LABELS = {**PAIRS, "table": "data/classification.csv"}
CLASSES = {
    "chest X-ray": "chest radiograph",
    "abdominal CT": "CT of the abdomen",
    "histology slide": "histology slide",
    "skin photograph": "photograph of skin",
}
# For runs of which nobody asks for the ONNX files, most of a small run's time.
LIGHT = "bundle.formats=[open_clip]"
# Batch normalisation, so that running statistics have to be resumed as well.
RESNET = {
    "image_tower": "test_resnet",
    "image_size": 32,
    "embed_dim": 16,
    "text": {"width": 16, "heads": 2, "layers": 1, "context_length": 20},
}
# Rows do not see one another: two processes can give what one gives.
VIT = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def recipe() -> dict[str, Any]:
    """The recipe as plain values, for a test to change."""
    stage = {"epochs": 1, "batch_size": 40, "learning_rate": 1e-3, "log_every": 1, "checkpoint_every": 1}
    return {
        "name": "small",
        "about": {"what": "a small world"},
        "data": {"train": {**PAIRS, "text": "text", "where": {"split": "train"}}},
        "teachers": {
            "radiology": _teacher("open_clip", "local-dir:teachers/radiology", ["xray", "ct"]),
            "microscopy": _teacher("open_clip", "local-dir:teachers/microscopy", ["histology"]),
            "general": _teacher("transformers", "teachers/general", None),
        },
        "features": {"shard_rows": 16, "batch_size": 8},
        "student": dict(RESNET),
        "stages": [
            {"name": "pretrain", "method": "contrastive", **stage},
            {
                "name": "distill",
                "method": "embedding",
                "objectives": {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0},
                "selection": {"kind": "random_draw"},
                **stage,
            },
        ],
        "evaluate": {"suite": "suite.yaml"},
        "bundle": {"formats": ["open_clip", "onnx"]},
        "licence_policy": "permissive",
    }


def suite() -> dict[str, Any]:
    """Every kind of task, as plain values."""
    tables: dict[str, Any] = {
        split: {**LABELS, "where": {"split": split, "task": "modality"}} for split in ("train", "test")
    }
    tables["pairs"] = {**PAIRS, "text": "text", "where": {"split": "test"}}
    probe = {"train": "train", "test": "test"}
    return {
        "name": "small-suite",
        "tables": tables,
        "tasks": [
            {"name": "modality", "kind": "zero_shot", "table": "test", "classes": CLASSES},
            {"name": "probe", "kind": "linear_probe", **probe},
            {"name": "neighbours", "kind": "knn", "k": 5, **probe},
            {"name": "retrieval", "kind": "retrieval", "table": "pairs"},
        ],
        "bootstrap": {"resamples": 50},
    }


def _teacher(kind: str, model: str, modalities: Sequence[str] | None) -> dict[str, Any]:
    return {"kind": kind, "model": model, "licence": "MIT", "modalities": modalities}


def write_world(folder: Path, **changed: Any) -> Path:
    """Fill `folder` with images, teachers, suite and recipe, and return the recipe's path."""
    config = PhantomConfig(samples=SAMPLES, size=32, modalities=MODALITIES)
    folder.mkdir(parents=True, exist_ok=True)
    generate(folder / "data", config)
    save_open_clip(folder / "teachers" / "radiology", seed=1)
    save_open_clip(folder / "teachers" / "microscopy", seed=2)
    save_clip(folder / "teachers" / "general")
    (folder / "vit.json").write_text(json.dumps(VIT))
    write_yaml(folder / "suite.yaml", suite())
    return write_yaml(folder / "recipe.yaml", {**recipe(), **changed})


def write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    """`content` as YAML at `path`."""
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path


class Diary(SilentProgress):
    """Progress that remembers what was said and which tasks were opened."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.opened: list[str] = []

    def track(self, label: str, total: int, *, unit: str = "images", done: int = 0):
        self.opened.append(label)
        return super().track(label, total, unit=unit, done=done)

    def say(self, message: str) -> None:
        self.said.append(message)


def do_run(recipe_path: Path, out: Path, *overrides: str, until: Step = "report") -> Diary:
    """Run a recipe in this process and return what it told."""
    diary = Diary()
    run_recipe(load_recipe(recipe_path, overrides=overrides), out, until=until, progress=diary)
    return diary


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    """Every file of a folder: the hash of its bytes, and when it was written last (in nanoseconds)."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in paths
    }


def hashes(folder: Path) -> dict[str, str]:
    """Every file of a folder: the hash of its bytes."""
    return {name: found for name, (found, _) in digests(folder).items()}


def environment(**more: str) -> dict[str, str]:
    """Of a subprocess: one thread, no network, no accelerator."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **more,
    }
