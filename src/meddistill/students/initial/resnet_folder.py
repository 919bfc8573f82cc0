"""ResNets of transformers as those of timm, where these have the same shape."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from meddistill.errors import CheckpointError
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.initial.processor import preprocessing_of_folder, processor_settings
from meddistill.students.initial.renaming import Pair
from meddistill.students.initial.start import Origin, Start
from meddistill.students.initial.timm_folder import TRUNK, WEIGHTS, check_channels, classifier_of
from meddistill.students.presets import timm_tower

_TIMM: Final[Mapping[tuple[str, tuple[int, ...]], str]] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
    ("bottleneck", (3, 4, 23, 3)): "resnet101",
    ("bottleneck", (3, 8, 36, 3)): "resnet152",
}
_STEM: Final = 64
_CONVOLUTIONS: Final = {"basic": 2, "bottleneck": 3}
_NORMALIZATION: Final = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def resnet_start(folder: ModelFolder, settings: Any) -> Start:
    """The start that a `ResNetModel`, or one with a classifier, gives: timm's tower of the same shape."""
    check_channels(settings.num_channels)
    kind, depths = settings.layer_type, tuple(settings.depths)
    expansion = 4 if kind == "bottleneck" else 1
    usual = (
        settings.embedding_size == _STEM
        and list(settings.hidden_sizes) == [_STEM * expansion * 2**stage for stage in range(len(depths))]
        and settings.hidden_act == "relu"
        and not getattr(settings, "downsample_in_first_stage", False)
        and not getattr(settings, "downsample_in_bottleneck", False)
    )
    name = _TIMM.get((kind, depths)) if usual else None
    if name is None:
        msg = (
            f"`init` must be a ResNet that timm has too ({', '.join(sorted(_TIMM.values()))}); got {kind} "
            f"layers {list(depths)} of widths {list(settings.hidden_sizes)}. Take it as a teacher instead."
        )
        raise CheckpointError(msg)
    size = processor_settings(folder)
    return Start(
        source=f"ResNet of transformers, {folder.path.name}",
        files=folder.weights(WEIGHTS),
        vision=timm_tower(name, image_size=_side(size)),
        preprocessing=preprocessing_of_folder(folder),
        table=lambda names, _: dict(_pairs(names, depths, _CONVOLUTIONS[kind])),
        fresh=classifier_of,
    )


def _side(settings: Mapping[str, Any]) -> int:
    """Pixels of the square that the processor gives."""
    cut = settings.get("crop_size") if settings.get("do_center_crop") else None
    size = dict(cut or settings["size"])
    return int(next(value for value in size.values() if value is not None))


def _pairs(names: frozenset[str], depths: tuple[int, ...], convolutions: int) -> Iterator[Pair]:
    stem = "embedder.embedder."
    prefix = next((name for name in sorted(names) if name.endswith(f"{stem}convolution.weight")), stem)
    prefix = prefix.partition(stem)[0]
    yield from _convolution(f"{TRUNK}conv1", f"{TRUNK}bn1", f"{prefix}{stem}")
    for stage, depth in enumerate(depths):
        for layer in range(depth):
            to, of = f"{TRUNK}layer{stage + 1}.{layer}.", f"{prefix}encoder.stages.{stage}.layers.{layer}."
            for place in range(convolutions):
                own = (f"{to}conv{place + 1}", f"{to}bn{place + 1}")
                yield from _convolution(*own, f"{of}layer.{place}.")
            if f"{of}shortcut.convolution.weight" in names:
                yield from _convolution(f"{to}downsample.0", f"{to}downsample.1", f"{of}shortcut.")


def _convolution(convolution: str, normalization: str, of: str) -> Iterator[Pair]:
    yield f"{convolution}.weight", Origin((f"{of}convolution.weight",))
    for kind in _NORMALIZATION:
        yield f"{normalization}.{kind}", Origin((f"{of}normalization.{kind}",))
