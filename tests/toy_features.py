"""Small teachers of known arithmetic and small tables of images, for tests of the feature store."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from meddistill.data.samples import Samples
from meddistill.features.config import ExtractOptions
from meddistill.imaging import ImageRef, InputSpec
from meddistill.licences import KNOWN
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.protocols import PatchGrid, signals_of

SMALL = ExtractOptions(shard_rows=8, batch_size=4)
OF_ALL_ROWS = ("statistics.safetensors", "availability.safetensors")
MODALITIES = ("xray", "ct", "mri")


class ToyImages(nn.Module):
    """Linear maps of 4 x 4 pooled pixels."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(48, dim, generator=generator))

    def embed_images(self, pixels: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1) @ self.weight


class ToyTokens(ToyImages):
    """And one token for each quarter of the image."""

    def patch_tokens(self, pixels: Tensor) -> PatchGrid:
        pooled = nn.functional.adaptive_avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)
        return PatchGrid(tokens=pooled @ self.weight[:3], grid=(2, 2))


class ToyClip(ToyImages):
    """And texts by the counts of their letters."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        counts = [[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return torch.tensor(counts, dtype=torch.float32) @ self.weight[:26]


def toy_teacher(
    id: str = "toy",
    *,
    kind: type[nn.Module] = ToyClip,
    dim: int = 8,
    seed: int = 0,
    size: int = 16,
    modalities: tuple[str, ...] | None = None,
) -> FrozenTeacher:
    """A frozen teacher around one of the models above."""
    model = kind(dim, seed)
    mean = (0.5, 0.5, 0.5)
    card = TeacherCard(
        id=id,
        kind="python",
        source="toy",
        library="tests",
        weights_sha256=hashlib.sha256(model.weight.detach().numpy().tobytes()).hexdigest(),
        licence=KNOWN["MIT"],
        input=InputSpec(height=size, width=size, mean=mean, std=mean),
        dims=dict.fromkeys(signals_of(model) - {"text_tokens"}, dim),
        logit_scale=20.0 if issubclass(kind, ToyClip) else None,
        signals=signals_of(model),
        modalities=modalities,
        parameters=model.weight.numel(),
    )
    return FrozenTeacher(model, card=card)


def toy_samples(
    folder: Path, images: int, *, captions: int | None = None, seed: int = 0, there: bool = False
) -> Samples:
    """`images` PNG files, each with `captions // images` captions; captions repeat every 7.

    `there`: the files are there already, and others may be reading them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed)
    for each in range(0 if there else images):
        pixels = numbers.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{each}.png")
    rows = captions or images
    return Samples(
        refs=tuple(ImageRef(folder / f"{row % images}.png") for row in range(rows)),
        texts=tuple(
            f"{seed}: finding {'abcdefg'[row % 7]} in the {MODALITIES[row % images % 3]}"
            for row in range(rows)
        ),
        modalities=tuple(MODALITIES[row % images % 3] for row in range(rows)),
    )


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
