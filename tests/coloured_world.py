"""A small world of plain colours, with teachers that see some of them: for runs with fusion stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from recipe_data import RESNET, write_yaml

TRAIN, VALIDATION = 64, 24
# Teachers that see some of an image's colours, and read the same of its caption; `noise` knows nothing.
TEACHERS = """
import torch
from meddistill.imaging import InputSpec

class Teacher:
    input = InputSpec(height=16, width=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    logit_scale = 20.0

    def __init__(self, channels, noise, text, levels):
        self.channels, self.noise, self.levels = list(channels), noise, levels
        if text:
            self.embed_texts = self._texts

    def embed_images(self, pixels):
        return self._embedded(pixels.mean(dim=(2, 3)) / 2 + 0.5)

    def _texts(self, texts):
        named = [[int(word) / 255 for word in text.split() if word.isdigit()] for text in texts]
        return self._embedded(torch.tensor([(colour + [0.0] * 3)[:3] for colour in named]))

    def _embedded(self, colours):
        if self.noise:
            draws = torch.Generator().manual_seed(len(colours))
            return torch.randn(len(colours), 8, generator=draws)
        angles = 3.0 * (colours[:, self.channels] * self.levels).round() / self.levels
        return torch.cat([angles.cos(), angles.sin(), 0.1 * torch.ones(len(colours), 1)], dim=1)

def make(channels=(0, 1, 2), noise=False, text=True, levels=255):
    return Teacher(channels, noise, text, levels)
"""
TRAINING = {"batch_size": 16, "learning_rate": 1e-2, "log_every": 4}
STUDENT_TRAINING = {**TRAINING, "epochs": 1, "learning_rate": 1e-3}
WITHIN = {"name": "within", "method": "fusion", "dim": 16, "hidden": 32, **TRAINING, "epochs": 2}
ACROSS = {
    **WITHIN,
    "name": "across",
    "inputs": "across",
    "network": "cross_attention",
    "teachers": ["warm", "cold"],
}
SIMILAR = {"contrastive": 1.0, "similarity_kl": 1.0}
STUDENT_STAGES = [
    {"name": "similar", "method": "embedding", "teachers": ["warm", "within"], "objectives": SIMILAR},
    {"name": "features", "method": "embedding"},
]
BY_STAGE = [{**each, **STUDENT_TRAINING} for each in STUDENT_STAGES]


def teacher(licence: str = "MIT", **options: Any) -> dict[str, Any]:
    """An entry under `teachers`, with these options of `make`."""
    return {"kind": "python", "factory": "coloured:make", "licence": licence, "options": options}


def world(folder: Path, **changes: Any) -> Path:
    """Plain images of one colour each, of modalities a and b in turn, captions that name it, and a recipe."""
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    lines = ["image,text,split,modality"]
    for number in range(TRAIN + VALIDATION):
        colour = draws.integers(0, 256, 3)
        pixels = np.broadcast_to(colour, (16, 16, 3)).astype(np.uint8).copy()
        pixels[0, 0], pixels[0, 1], pixels[1, 0], pixels[1, 1] = 0, 85, 170, 255  # no flat picture
        Image.fromarray(pixels).save(folder / f"{number}.png")
        split = "train" if number < TRAIN else "val"
        lines.append(f"{number}.png,{' '.join(map(str, colour))},{split},{'ab'[number % 2]}")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    (folder / "coloured.py").write_text(TEACHERS)
    table = {"table": "pairs.csv", "text": "text"}
    recipe = {
        "name": "colours",
        "data": {"train": {**table, "where": {"split": "train"}}},
        "teachers": {"warm": teacher(channels=[0, 1]), "cold": teacher("CC-BY-NC-4.0", channels=[1, 2])},
        "features": {"shard_rows": 32, "batch_size": 16},
        "student": RESNET,
        "stages": [WITHIN, ACROSS, *BY_STAGE],
        "licence_policy": "any",
        **changes,
    }
    if recipe.pop("validated", False):
        recipe["data"]["validation"] = {**table, "where": {"split": "val"}}
    return write_yaml(folder / "recipe.yaml", recipe)


def log_of(run: Path, stage: str) -> list[dict[str, float]]:
    """What a stage has logged."""
    lines = (run / "stages" / stage / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
