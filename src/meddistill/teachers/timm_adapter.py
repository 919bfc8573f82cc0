"""Image models of timm: the pooled feature before the classifier, and patch tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import timm
from jaxtyping import Float
from timm.data import resolve_model_data_config
from timm.models import load_state_dict
from torch import Tensor, nn

from meddistill.errors import TeacherError
from meddistill.imaging.geometry import InputSpec, Resize
from meddistill.teachers.adapted import Adapted, count_parameters, interpolation_of, version_of
from meddistill.teachers.config import TimmTeacher
from meddistill.teachers.processors import Preprocessing
from meddistill.teachers.protocols import PatchGrid, patches_of_map
from meddistill.teachers.sources import Source, find_file, find_folder, sha256_of
from meddistill.teachers.weights import as_one_file, checked_weights, weight_files

_WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin")
_FOLDERS: Final = ("local-dir:", "hf-hub:")
_RESIZE: Final[dict[str, Resize]] = {"center": "crop", "squash": "squash", "border": "pad"}


class TimmModel(nn.Module):
    """A timm model without its classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """timm's pooled feature."""
        return self.model(pixels)

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The last feature map, normalised as before pooling."""
        (grid,) = self._intermediates(pixels, intermediates_only=True)
        return patches_of_map(grid)

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both by one pass: pooling comes after the last feature map."""
        features, (grid,) = self._intermediates(pixels, intermediates_only=False)
        return self.model.forward_head(features), patches_of_map(grid)

    def _intermediates(self, pixels: Tensor, *, intermediates_only: bool) -> Any:
        return self.model.forward_intermediates(
            pixels, indices=1, norm=True, output_fmt="NCHW", intermediates_only=intermediates_only
        )


def adapt(config: TimmTeacher, *, base: Path) -> Adapted:
    """Load the model that `config` names."""
    if config.model.startswith(_FOLDERS):
        source = find_folder(config.model, base=base, revision=config.revision)
        weights = weight_files(source.folder, preferred=_WEIGHTS)
        name = f"local-dir:{source.folder}"
    else:
        weights = checked_weights(find_file(str(config.checkpoint), base=base, what="checkpoint"))
        source = Source(folder=base, name=f"{config.model} {Path(str(config.checkpoint)).name}")
        name = config.model
        _check_architecture(name)
    model = timm.create_model(name, pretrained=False, num_classes=0)
    _load_all(model, weights)
    images = Preprocessing(spec=config.input) if config.input else _preprocessing(model)
    return Adapted(
        model=TimmModel(model),
        source=source.name,
        revision=source.revision,
        library=version_of("timm"),
        weights_sha256=sha256_of(weights),
        parameters=count_parameters(model),
        input=images.spec,
        centre_crop=images.centre_crop,
        optional=frozenset({"patches"}),
    )


def _check_architecture(name: str) -> None:
    if not timm.is_model(name):
        guesses = timm.list_models(f"*{name}*")[:3]
        hint = f" Did you mean {', '.join(guesses)}?" if guesses else ""
        msg = f"`model` must be local-dir:PATH, hf-hub:ID or an architecture of timm; got {name!r}.{hint}"
        raise TeacherError(msg)


def _load_all(model: Any, weights: Sequence[Path]) -> None:
    """Every weight but the classifier's, strictly.

    timm's own `pretrained=True` turns strictness off when the number of classes differs, as it does for a
    model without a classifier; a file with holes would then pass, with random numbers in the holes.
    """
    classifiers = model.pretrained_cfg.get("classifier") or ()
    heads = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    prefixes = tuple(f"{head}." for head in heads)
    with as_one_file(weights) as path:
        state = load_state_dict(str(path))
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith(prefixes)})


def _preprocessing(model: nn.Module) -> Preprocessing:
    """timm's evaluation transform: resize to size / crop_pct, then cut the size from the centre."""
    settings = resolve_model_data_config(model)
    height, width = settings["input_size"][1:]
    rows, columns = (int(side / settings["crop_pct"]) for side in (height, width))
    interpolation = settings["interpolation"]
    spec = InputSpec(
        height=rows,
        width=columns,
        resize=_RESIZE[settings["crop_mode"]],
        interpolation=interpolation_of("bilinear" if interpolation == "random" else interpolation),
        mean=settings["mean"],
        std=settings["std"],
    )
    return Preprocessing(
        spec=spec, centre_crop=None if (rows, columns) == (height, width) else (height, width)
    )
