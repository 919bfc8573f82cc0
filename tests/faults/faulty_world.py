"""A small world that a test can damage: pictures of three colours, two teachers of plain Python, a recipe."""

import csv
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from meddistill.cli import main

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
COLUMNS = ("id", "image", "text", "patient", "modality", "split", "label")
PAIRS = {"table": "pairs.csv", "id": "id", "patient": "patient", "modality": "modality"}
TRAINED, TESTED = 24, 12
PATIENTS = 6

TEACHER = """
import torch
from torch import nn
from meddistill.imaging import InputSpec


class Mine(nn.Module):
    input = InputSpec(height=16, width=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    logit_scale = 20.0
    context_length = 64

    def __init__(self, seed, width, fault):
        super().__init__()
        torch.manual_seed(seed)
        self.pixels = nn.Linear(3 * 16, width)
        self.words = nn.Embedding(256, width)
        self.fault = fault

    def embed_images(self, pixels):
        output = self.pixels(nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1))
        reddish = pixels[:, 0].mean((1, 2)) > 0.9  # the one picture that a test makes brighter than all
        if self.fault == "nan":
            return torch.where(reddish[:, None], float("nan"), output)
        if self.fault == "raises" and reddish.any():
            raise ArithmeticError("this picture is too bright")
        if self.fault == "width" and reddish.any():
            return output[:, :-1]
        if self.fault == "rows" and reddish.any():
            return output[:-1]
        if self.fault == "integers":
            return output.round().long()
        if self.fault == "complex":
            return torch.complex(output, output)
        return output

    def embed_texts(self, texts):
        rows = [torch.tensor([0, *text.encode()], device=self.words.weight.device) for text in texts]
        return torch.stack([self.words(row).mean(0) for row in rows])


def build(seed=0, width=8, fault=""):
    return Mine(seed, width, fault)
"""

Row = dict[str, str]
Say = Callable[..., "CommandResult"]


@dataclass(frozen=True)
class CommandResult:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def output(self) -> str:
        return self.out + self.err

    def refused(self, *parts: str) -> str:
        """Check that this is the user's mistake, told once, without a traceback; return the message."""
        assert self.code == 2, self.output
        assert "Traceback" not in self.output
        assert len(re.findall("^Error: ", self.err, re.MULTILINE)) == 1, self.err
        assert [part for part in parts if part not in self.err] == [], self.err
        return self.err

    def went_well(self) -> "CommandResult":
        assert self.code == 0, self.output
        assert "Traceback" not in self.output
        return self


def say_with(capsys: pytest.CaptureFixture[str]) -> Say:
    """The command line in this process."""

    def call(*arguments: object) -> CommandResult:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return call


def good_rows(folder: Path) -> list[Row]:
    """Pictures in `folder`/images and their rows: first those to train on, then those to test on."""
    numbers = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for place in range(TRAINED + TESTED):
        colour = list(COLOURS)[place % 3]
        split = "train" if place < TRAINED else "test"
        pixels = np.full((24, 24, 3), COLOURS[colour]) + numbers.integers(-30, 30, (24, 24, 3))
        name = f"images/{split}{place:02}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        rows.append(
            {
                "id": f"sample-{place}",
                "image": name,
                "text": f"finding {place % 7} in {colour} tissue",
                "patient": f"{split}-patient-{place % PATIENTS}",
                "modality": ("xray", "ct")[place % 2],
                "split": split,
                "label": colour,
            }
        )
    return rows


def write_table(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Rows as CSV; lone surrogates (PEP 383) become bytes that are no UTF-8."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def recipe(**changed: Any) -> dict[str, Any]:
    """The recipe as plain values."""
    stage = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "log_every": 1, "checkpoint_every": 2}
    teacher = {"kind": "python", "factory": "faulty_teacher:build", "licence": "MIT"}
    return {
        "name": "faulty",
        "data": {"train": {**PAIRS, "text": "text", "where": {"split": "train"}}},
        "teachers": {"one": {**teacher, "options": {"seed": 1}}, "two": {**teacher, "options": {"seed": 2}}},
        "features": {"shard_rows": 8, "batch_size": 4},
        "student": {
            "image_tower": "test_resnet",
            "image_size": 32,
            "embed_dim": 16,
            "text": {"width": 16, "heads": 2, "layers": 1, "context_length": 16},
        },
        "stages": [
            {"name": "distill", "method": "embedding", "objectives": {"feature_mse": 1.0}, **stage},
        ],
        "evaluate": {"suite": "suite.yaml"},
        "bundle": {"formats": ["open_clip"]},  # half of a run's time goes into ONNX
        "licence_policy": "permissive",
        **changed,
    }


def suite() -> dict[str, Any]:
    """Three tasks as plain values."""
    table = {**PAIRS, "text": "text"}
    return {
        "name": "colours",
        "tables": {split: {**table, "where": {"split": split}} for split in ("train", "test")},
        "tasks": [
            {"name": "colour", "kind": "zero_shot", "table": "test", "classes": list(COLOURS)},
            {"name": "near", "kind": "knn", "train": "train", "test": "test", "k": 3},
            {"name": "retrieval", "kind": "retrieval", "table": "test"},
        ],
        "bootstrap": {"resamples": 20},
    }


@dataclass
class World:
    """A folder with everything that a run needs; change the parts, then `write`."""

    folder: Path
    rows: list[Row]
    recipe: dict[str, Any] = field(default_factory=recipe)
    suite: dict[str, Any] = field(default_factory=suite)

    @classmethod
    def make(cls, folder: Path) -> "World":
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "faulty_teacher.py").write_text(TEACHER)
        world = cls(folder, good_rows(folder))
        world.write()
        return world

    def write(self) -> Path:
        """Write table, suite and recipe; returns the recipe's path."""
        write_table(self.folder / "pairs.csv", self.rows)
        write_yaml(self.folder / "suite.yaml", self.suite)
        return write_yaml(self.folder / "recipe.yaml", self.recipe)

    @property
    def out(self) -> Path:
        """Where runs go."""
        return self.folder / "run"

    def skipping(self) -> None:
        """Set `on_error: skip` for every table."""
        for table in (self.recipe["data"]["train"], *self.suite["tables"].values()):
            table["on_error"] = "skip"


def write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path


def png_bomb(path: Path, side: int = 60_000) -> None:
    """A few bytes that claim to be a picture of `side` x `side`."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)


def steps_done(run: Path) -> set[str]:
    """The steps that a run entered as finished."""
    path = run / "steps.json"
    return set(json.loads(path.read_text())) if path.is_file() else set()
