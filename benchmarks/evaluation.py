"""Zero-shot evaluation with ViT-B/16 at 224 px against its parts: decode, resize, bare forward passes."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.extraction import BATCH, ROUNDS, SIZE, STORED_SIZE, VitB16
from benchmarks.measure import Measurement, seconds
from meddistill.data.config import TableConfig
from meddistill.data.loader import ImageBatches
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.table import read_table
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.torch_models import ModelEmbedder
from meddistill.progress import SilentProgress
from meddistill.teachers.config import PythonTeacher
from meddistill.teachers.load import load_teacher
from meddistill.training.processes import Processes

IMAGES = 128
LIMIT, LIMIT_AGAIN = 1.05, 3.0
_CLASSES = {"xray": "chest X-ray", "ct": "CT slice", "mri": "MRI", "histology": "histology slide"}


class DualViT(VitB16):
    """And texts by the counts of their letters: prompts are few and cost nothing here."""

    logit_scale = 50.0

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """`[m, 768]`."""
        counts = [[text.count(chr(ord("a") + place % 26)) + place for place in range(768)] for text in texts]
        return torch.tensor(counts, dtype=torch.float32)


def build() -> DualViT:
    """The factory that the adapter `python` calls."""
    return DualViT()


def run() -> list[Measurement]:
    """Time of an evaluation over the time of its parts, one after the other, and of a second evaluation."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        generate(
            base / "phantom", PhantomConfig(samples=IMAGES, size=STORED_SIZE, modalities=tuple(_CLASSES))
        )
        samples = read_table(TableConfig(table="phantom/pairs.csv"), base=base)
        config = PythonTeacher(kind="python", factory="benchmarks.evaluation:build")
        teacher = load_teacher("vit", config, base=Path()).to(Processes().device)
        suite = _suite()
        tables = SuiteTables(suite, base=base)
        pixels = torch.zeros(BATCH, SIZE, SIZE, 3, dtype=torch.uint8)
        folders = iter(range(10**6))
        model = ModelEmbedder(teacher, role="student", batch_size=BATCH)

        def whole(number: int | None = None) -> None:
            folder = base / f"evaluation_{next(folders) if number is None else number}"
            evaluate([model], suite, base=base, folder=folder, progress=SilentProgress(), tables=tables)

        def parts() -> None:
            for _ in ImageBatches(samples, [VitB16.input.geometry], batch_size=BATCH):
                pass
            for _ in range(IMAGES // BATCH):
                teacher.image_embeddings(pixels)

        whole()  # warms up
        ratio = median(seconds(whole) / seconds(parts) for _ in range(ROUNDS))
        again = min(seconds(lambda: whole(0)) for _ in range(ROUNDS))
    what = f"zero-shot evaluation of {IMAGES} images with ViT-B/16 at {SIZE} px"
    return [
        Measurement(
            what=f"{what}, time against decode + resize + bare forward passes",
            value=f"{ratio:.2f}",
            limit=f"<= {LIMIT}",
            holds=ratio <= LIMIT,
        ),
        Measurement(
            what=f"{what}, a second time",
            value=f"{again:.2f} s",
            limit=f"<= {LIMIT_AGAIN:.0f} s",
            holds=again <= LIMIT_AGAIN,
        ),
    ]


def _suite() -> SuiteConfig:
    table = {"table": "phantom/pairs.csv", "patient": "patient_id", "modality": "modality"}
    task = {"name": "modality", "kind": "zero_shot", "table": "all", "label": "modality", "classes": _CLASSES}
    return SuiteConfig.model_validate({"name": "bench", "tables": {"all": table}, "tasks": [task]})
