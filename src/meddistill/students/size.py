"""How large and how fast a model is: the numbers that stand beside quality in a report."""

import statistics
import time
from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from meddistill.imaging.geometry import Geometry
from meddistill.strict import Strict
from meddistill.students.dual_encoder import DualEncoder

BATCHES: Final = (1, 16)
_MEGABYTE: Final = 1e6


class ModelSize(Strict):
    """Parameters (a count) and the megabytes (10^6 bytes) of parameters and buffers as they are stored."""

    parameters: int
    megabytes: float


class Latency(Strict):
    """Images a second by batch size: the median of `repeats` passes on `device` with `threads` threads.

    From the uint8 raster to the embedding; decoding and resizing are left out, they are equal for all.
    """

    images_per_second: dict[int, float]
    repeats: int
    threads: int
    device: str


class VocabularySize(Strict):
    """Tokens of a vocabulary, and the parameters of the table that has a row for each."""

    tokens: int
    parameters: int


def vocabulary_size(student: DualEncoder) -> VocabularySize:
    """Size of a student's vocabulary."""
    text = student.model.text
    own = getattr(text, "token_embedding", None)  # of a tower of transformers, its method knows
    inner = text.transformer.get_input_embeddings() if own is None else own
    return VocabularySize(tokens=inner.num_embeddings, parameters=inner.weight.numel())


def model_size(module: nn.Module) -> ModelSize:
    """Size of a module; a tensor that is used twice counts once."""
    stored = {tensor.data_ptr(): tensor for tensor in (*module.parameters(), *module.buffers())}
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        megabytes=sum(tensor.numel() * tensor.element_size() for tensor in stored.values()) / _MEGABYTE,
    )


def measure_latency(
    embed_images: Callable[[UInt8[Tensor, "batch height width 3"]], object],
    geometry: Geometry,
    *,
    device: torch.device,
    batches: tuple[int, ...] = BATCHES,
    repeats: int = 5,
) -> Latency:
    """Time a model's image tower on random pixels, without gradients.

    One pass that is not timed precedes each batch size. On a shared machine single numbers wander by tens
    of per cent; compare only models measured in the same run.

    Parameters
    ----------
    embed_images
        Takes uint8 rasters of shape (batch, height, width, 3); a student's or a teacher's method.
    geometry
        The model's input raster.
    device
        Where the model is; on an accelerator each pass is waited for.
    batches
        Batch sizes to time.
    repeats
        Timed passes per batch size, of which the median counts.
    """
    speeds = {}
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        shape = (batch, geometry.height, geometry.width, 3)
        rasters = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        seconds = [_seconds(embed_images, rasters, device) for _ in range(repeats + 1)][1:]
        speeds[batch] = batch / statistics.median(seconds)
    return Latency(
        images_per_second=speeds, repeats=repeats, threads=torch.get_num_threads(), device=device.type
    )


@torch.inference_mode()
def _seconds(
    embed_images: Callable[[Tensor], object], rasters: UInt8[Tensor, "b h w 3"], device: torch.device
) -> float:
    _wait(device)
    start = time.perf_counter()
    embed_images(rasters)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
