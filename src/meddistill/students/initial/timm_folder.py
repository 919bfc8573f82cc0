"""Image models of timm: the trunk without its classifier, whose place the student's projection takes."""

from collections.abc import Mapping
from typing import Any, Final

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from meddistill.errors import CheckpointError
from meddistill.imaging.published import known_interpolation
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.initial.start import IMAGE, Origin, Preprocessing, Start, Table
from meddistill.students.presets import timm_tower

WEIGHTS: Final = ("model.safetensors",)
TRUNK: Final = f"{IMAGE}trunk."
_COLORS: Final = 3
_SIZE: Final = 224
# What open_clip gives every tower itself.
_GIVEN: Final = ("in_chans", "num_classes", "global_pool")


def timm_start(folder: ModelFolder) -> Start | None:
    """The start that a folder of timm gives, an image tower; None for a folder of another library."""
    content = folder.config or {}
    name = content.get("architecture")
    if not isinstance(name, str) or "model_type" in content:
        return None
    if not timm.is_model(name):
        msg = f"`init` must be a model that this version of timm knows; got {name!r}. Update timm."
        raise CheckpointError(msg)
    published: Mapping[str, Any] = content.get("pretrained_cfg", content)
    arguments: Mapping[str, Any] = content.get("model_args") or {}
    channels, *size = published.get("input_size") or (_COLORS, _SIZE, _SIZE)
    check_channels(arguments.get("in_chans", channels))
    pool = content.get("global_pool") or arguments.get("global_pool") or _pool(name)
    special = {key: value for key, value in arguments.items() if key not in _GIVEN}
    if special and not _same_network(name, special, pool=pool, size=size):
        msg = (
            f"`init` must be a timm model as its name alone builds it, which is how open_clip does; got "
            f"{name} with {', '.join(special)}. Take it as a teacher instead."
        )
        raise CheckpointError(msg)
    return Start(
        source=f"timm {name}",
        files=folder.weights(WEIGHTS),
        vision={
            **timm_tower(name, image_size=size[0] if len(set(size)) == 1 else size),
            "timm_pool": pool,
        },
        preprocessing=_preprocessing(published),
        table=_table,
        fresh=classifier_of,
    )


def check_channels(channels: int) -> None:
    """Refuse a model that does not take colour images."""
    if channels != _COLORS:
        msg = f"`init` must be a model of colour images, 3 channels; got {channels}. Take another one."
        raise CheckpointError(msg)


def classifier_of(model: Any) -> frozenset[str]:
    """The names of the classifier's tensors in a student with a timm tower: what is a projection there."""
    trunk = model.visual.trunk
    classifier = trunk.get_classifier()
    modules = classifier if isinstance(classifier, tuple) else (classifier,)
    own = {id(tensor) for module in modules for tensor in module.parameters()}
    return frozenset(f"{TRUNK}{name}" for name, tensor in trunk.named_parameters() if id(tensor) in own)


def _table(names: frozenset[str], model: Any) -> Table:
    placed = {f"{TRUNK}{name}": Origin((name,)) for name in names}
    return {name: origin for name, origin in placed.items() if name not in classifier_of(model)}


def _pool(name: str) -> str:
    """How the architecture pools by itself, where a folder does not say."""
    model = timm.create_model(name)
    pool = getattr(model, "global_pool", None) or getattr(getattr(model, "head", None), "global_pool", None)
    return str(getattr(pool, "pool_type", pool or "avg"))


@torch.no_grad()
def _same_network(name: str, arguments: Mapping[str, Any], *, pool: str, size: list[int]) -> bool:
    """Whether `arguments` change nothing of what the network computes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain, special = (
            timm.create_model(name, num_classes=0, global_pool=pool, **more).eval()
            for more in ({}, arguments)
        )
        pixels = torch.randn(1, _COLORS, *size)
    try:
        plain.load_state_dict(special.state_dict())
        return torch.allclose(plain(pixels), special(pixels), rtol=1e-4, atol=1e-5)
    except (AssertionError, RuntimeError):
        return False


def _preprocessing(published: Mapping[str, Any]) -> Preprocessing:
    interpolation = published.get("interpolation") or "bicubic"
    return {
        "mean": list(published.get("mean") or IMAGENET_DEFAULT_MEAN),
        "std": list(published.get("std") or IMAGENET_DEFAULT_STD),
        "interpolation": known_interpolation("bilinear" if interpolation == "random" else interpolation),
    }
