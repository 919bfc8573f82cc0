"""Extraction with ViT-B/16 at 224 px against its parts: decode, resize, bare forward passes.

With patch tokens, 196 of 768 an image, there is still one forward pass an image.
"""

import tempfile
from pathlib import Path
from statistics import median

import timm
import torch
from torch import Tensor, nn

from benchmarks.measure import Measurement, seconds
from meddistill.data.config import TableConfig
from meddistill.data.loader import ImageBatches
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.generate import generate
from meddistill.data.table import read_table
from meddistill.features.config import ExtractOptions
from meddistill.features.extract import extract
from meddistill.imaging import InputSpec
from meddistill.teachers.config import PythonTeacher
from meddistill.teachers.load import load_teacher
from meddistill.teachers.protocols import PatchGrid
from meddistill.training.processes import Processes

LIMIT, LIMIT_BESIDE = 1.0, 1.05
SIZE, IMAGES, BATCH, ROUNDS = 224, 128, 16, 3
# What images have when they come: larger than the teacher's input, so that there is something to resize.
STORED_SIZE = 512


class VitB16(nn.Module):
    """timm's ViT-B/16 with random weights; a forward pass costs what a trained one's does."""

    input = InputSpec(height=SIZE, width=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model("vit_base_patch16_224", num_classes=0)

    def embed_images(self, pixels: Tensor) -> Tensor:
        """`[n, 3, 224, 224]` to `[n, 768]`."""
        return self.model(pixels)

    def patch_tokens(self, pixels: Tensor) -> PatchGrid:
        """`[n, 3, 224, 224]` to 14 x 14 tokens of 768."""
        return self.embed_images_with_patches(pixels)[1]

    def embed_images_with_patches(self, pixels: Tensor) -> tuple[Tensor, PatchGrid]:
        """Both."""
        features = self.model.forward_features(pixels)
        side = SIZE // 16
        return self.model.forward_head(features), PatchGrid(tokens=features[:, 1:], grid=(side, side))


def build() -> VitB16:
    """The factory that the adapter `python` calls."""
    return VitB16()


def run() -> list[Measurement]:
    """Time of `extract` over the time of its parts, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        tables = generate(base / "phantom", PhantomConfig(samples=IMAGES, size=STORED_SIZE))
        samples = read_table(TableConfig(table=str(tables.pairs)), base=base)
        precision = "bfloat16" if torch.cuda.is_available() else "float32"
        config = PythonTeacher(kind="python", factory="benchmarks.extraction:build", precision=precision)
        device = Processes().device
        teacher = load_teacher("vit", config, base=Path()).to(device)
        options = ExtractOptions(batch_size=BATCH, shard_rows=4 * BATCH)
        geometry = VitB16.input.geometry
        pixels = torch.zeros(BATCH, SIZE, SIZE, 3, dtype=torch.uint8)
        stores = iter(range(10**6))

        def whole() -> None:
            extract(base / f"store_{next(stores)}", samples, {"vit": teacher}, options)

        def with_tokens() -> None:
            asked = options.model_copy(update={"tokens": True})
            extract(base / f"store_{next(stores)}", samples, {"vit": teacher}, asked)

        def forwards() -> None:
            for _ in range(IMAGES // BATCH):
                teacher.image_embeddings(pixels)

        def decodes() -> None:
            for _ in ImageBatches(samples, [geometry], batch_size=BATCH):
                pass

        against_parts, against_forwards, tokens_against_parts = [], [], []
        whole()  # warms up
        for _ in range(ROUNDS):
            taken, bare, decoding = seconds(whole), seconds(forwards), seconds(decodes)
            against_parts.append(taken / (bare + decoding))
            against_forwards.append(taken / bare)
            tokens_against_parts.append(seconds(with_tokens) / (bare + decoding))
    what = f"extraction with ViT-B/16 at {SIZE} px, time against"
    parts = f"{what} decode + resize + bare forward passes"
    beside = f"{what} bare forward passes, a core being free"
    return [
        _measurement(parts, median(against_parts), LIMIT),
        _measurement(beside, median(against_forwards), LIMIT_BESIDE),
        _measurement(f"with patch tokens, {parts}", median(tokens_against_parts), LIMIT),
    ]


def _measurement(what: str, ratio: float, limit: float) -> Measurement:
    return Measurement(what=what, value=f"{ratio:.2f}", limit=f"<= {limit}", holds=ratio <= limit)
