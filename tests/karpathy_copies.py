"""Small copies of Flickr30K and MSCOCO in their authors' layout, with Karpathy's splits beside the images."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Described = tuple[str, str, list[str]]
"""An image's file name, its split and its captions."""


def karpathy(path: Path, images: list[Described], **more: Callable[[str], Any]) -> None:
    """The JSON; `more` are further keys of an image, from its name."""
    records = [
        {
            **{key: make(name) for key, make in more.items()},
            "filename": name,
            "imgid": number,
            "split": split,
            "sentids": list(range(len(texts))),
            "sentences": [{"tokens": text.lower().split(), "raw": text, "imgid": number} for text in texts],
        }
        for number, (name, split, texts) in enumerate(images)
    ]
    path.write_text(json.dumps({"images": records, "dataset": path.stem.removeprefix("dataset_")}))


def flickr30k(folder: Path, captions: int = 2) -> None:
    """Two images to train on, one for validation, two to be judged."""
    images = []
    for number, split in enumerate(("train", "train", "val", "test", "test")):
        name = f"{1000 + number}.jpg"
        _picture(folder / "flickr30k-images" / name, number)
        images.append((name, split, [f" Dog {number} runs  {each}." for each in range(captions)]))
    karpathy(folder / "dataset_flickr30k.json", images)


def mscoco(folder: Path, inside: str = "") -> None:
    """Two images to train on, one of them of `restval`, one for validation, ten to be judged."""
    images = []
    for number, split in enumerate(("train", "restval", "val", *("test",) * 10)):
        year = "train2014" if split == "train" else "val2014"
        name = f"COCO_{year}_{number:012d}.jpg"
        _picture(folder / inside / year / name, number)
        images.append((name, split, [f"A cat {number}, told {each} times." for each in range(7)]))
    karpathy(
        folder / "dataset_coco.json",
        images,
        filepath=lambda name: name.split("_")[1],
        cocoid=lambda name: int(name[-16:-4]) + 500,
    )


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
