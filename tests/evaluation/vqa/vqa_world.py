"""A small world of coloured images with questions about them, and a model that gives tokens."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from colour_world import COLOURS, ColourModel, write_world

from meddistill.data.samples import Samples
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Tokens
from meddistill.evaluation.tasks.vqa.predictions import VqaPredictions
from meddistill.imaging import decode
from meddistill.progress import Progress, SilentProgress

FIELDS = ("image", "question", "answer", "kind", "type", "patient", "modality", "split")


def write_questions(folder: Path, *, patients: int = 48, seed: int = 0) -> Path:
    """`questions.csv` beside the images: what colour (open), is it red (closed), a rare one."""
    write_world(folder, patients=patients, seed=seed)
    rows = []
    with (folder / "table.csv").open() as handle:
        for number, row in enumerate(csv.DictReader(handle)):
            colour, place = row["label"], (row["image"], row["patient"], row["modality"], row["split"])
            asked = [
                ("What is the colour?", f"The {colour}.", "colour", "OPEN "),
                ("Is it red?", "Yes" if colour == "red" else "no", "check", "CLOSED"),
            ]
            if number % 5 == 0:
                asked.append(("Which picture is it?", f"secret answer {number}", "", "OPEN"))
            rows += [(place[0], *each, *place[1:]) for each in asked]
    with (folder / "questions.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(FIELDS)
        writer.writerows(rows)
    return folder


def table(split: str, **more: Any) -> dict[str, Any]:
    named = {"table": "questions.csv", "patient": "patient", "modality": "modality"}
    return {**named, "where": {"split": split}, **more}


CLOSED_SET = {
    "name": "closed",
    "kind": "vqa_closed_set",
    "train": "train",
    "validation": "val",
    "test": "test",
    "answer_type": "type",
    "question_type": "kind",
    "width": 32,
    "heads": 2,
    "layers": 1,
    "epochs": 12,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "dropout": 0.0,
    "seeds": 2,
}
ZERO_SHOT = {
    "name": "nearest",
    "kind": "vqa_zero_shot",
    "train": "train",
    "test": "test",
    "answer_type": "type",
    "question_type": "kind",
}


def suite(*tasks: dict[str, Any], **more: Any) -> SuiteConfig:
    content = {
        "name": "questions",
        "tables": {split: table(split) for split in ("train", "val", "test")},
        "bootstrap": {"resamples": 100},
        "tasks": list(tasks) or [CLOSED_SET, ZERO_SHOT],
        **more,
    }
    return SuiteConfig.model_validate(content)


class TokenModel(ColourModel):
    """Tokens besides: the four quarters of an image, the words of a text (by a hash of each)."""

    geometry = None
    cut = None

    def image_tokens(self, samples: Samples, *, advance: Callable[[int], None]) -> Tokens | None:
        found = []
        for ref in samples.refs:
            pixels = decode(ref, samples.options).astype(np.float64) / 255 - 0.4
            quarters = pixels.reshape(2, 4, 2, 4, 3).mean(axis=(1, 3)).reshape(4, 3)
            found.append(quarters @ self._basis.T)
            advance(1)
        values = np.array(found, dtype=np.float16)
        return Tokens(values=values, mask=np.ones(values.shape[:2], dtype=bool), grid=(2, 2))

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:
        length = max(len(text.split()) for text in texts)
        values = np.zeros((len(texts), length, 8), dtype=np.float16)
        mask = np.zeros((len(texts), length), dtype=bool)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                values[row, place] = np.random.default_rng(sum(word.encode())).normal(size=8)
                mask[row, place] = True
        return Tokens(values=values, mask=mask)


def task_of(world: Path, folder: Path, content: dict[str, Any], *, plain: bool = False, **more: Any) -> Any:
    config = suite(content, **more)
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    return build_task(config.tasks[0], parts, SampleNames(folder, examples=plain))


def predict(task: Any, model: Any, folder: Path, progress: Progress | None = None) -> VqaPredictions:
    return task.predict(Embeddings(model, folder=folder, progress=progress or SilentProgress()))


def accuracy(dump: VqaPredictions, answer_type: str | None = None) -> float:
    mask = np.array([answer_type in (None, each) for each in dump.answer_types])
    return float(dump.right[mask].mean())


__all__ = [
    "CLOSED_SET", "COLOURS", "ZERO_SHOT", "TokenModel", "accuracy", "predict", "suite", "table", "task_of",
    "write_questions",
]  # fmt: skip
