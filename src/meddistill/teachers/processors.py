"""transformers' image processors as an InputSpec and a cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meddistill.errors import TeacherError
from meddistill.imaging.geometry import InputSpec, Resize
from meddistill.imaging.published import pixel_scale
from meddistill.teachers.adapted import interpolation_of

_FILES: Final = ("preprocessor_config.json", "processor_config.json")
_BY_HAND: Final = "Give the teacher an `input` of its own."


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """A raster, and what to cut from its centre where the model's input is smaller than the resize."""

    spec: InputSpec
    centre_crop: tuple[int, int] | None = None


def read_processor(folder: Path) -> Preprocessing:
    """The preprocessing that stands beside the weights.

    Sizes: `height` and `width` is `squash`; `shortest_edge` with a centre crop is `crop`; `longest_edge`
    with padding is `pad`. Two deviations. SAM pads at the right and bottom with zeros after its
    normalisation, here `pad` centres the picture on black; square pictures are the same. Where a cut leaves
    an odd margin, the extra pixel is left where torchvision leaves it; transformers' backends differ among
    themselves.

    Raises
    ------
    TeacherError
        If there is no processor file, or it asks for what an InputSpec cannot say.
    """
    if not any((folder / name).is_file() for name in _FILES):
        msg = f"`{folder.name}` must hold {_FILES[0]} (the images the model wants); it does not. {_BY_HAND}"
        raise TeacherError(msg)
    from transformers import AutoImageProcessor

    settings = AutoImageProcessor.from_pretrained(folder, local_files_only=True).to_dict()
    if settings.get("do_resize") is False:
        raise _unclear(settings, "do_resize")
    if settings.get("crop_pct") is not None:
        raise _unclear(settings, "crop_pct")
    resize, height, width = _resize(settings)
    crop = _crop(settings, height=height, width=width)
    if resize == "crop" and not settings.get("do_center_crop"):
        raise _unclear(settings, "do_center_crop")
    mean, std = pixel_scale(settings)
    spec = InputSpec(
        height=height,
        width=width,
        resize=resize,
        interpolation=interpolation_of(settings.get("resample", 2)),
        mean=mean,
        std=std,
    )
    return Preprocessing(spec=spec, centre_crop=crop)


def _unclear(settings: Mapping[str, Any], name: str) -> TeacherError:
    value = settings.get(name)
    msg = f"`{name}` of the published preprocessing must give one fixed size; got {value!r}. {_BY_HAND}"
    return TeacherError(msg)


def _resize(settings: Mapping[str, Any]) -> tuple[Resize, int, int]:
    size = {key: value for key, value in dict(settings["size"]).items() if value is not None}
    if set(size) == {"height", "width"}:
        return "squash", int(size["height"]), int(size["width"])
    if set(size) == {"shortest_edge"}:
        return "crop", int(size["shortest_edge"]), int(size["shortest_edge"])
    if set(size) == {"longest_edge"} and settings.get("do_pad"):
        return "pad", int(size["longest_edge"]), int(size["longest_edge"])
    raise _unclear(settings, "size")


def _crop(settings: Mapping[str, Any], *, height: int, width: int) -> tuple[int, int] | None:
    if not settings.get("do_center_crop"):
        return None
    size = dict(settings["crop_size"])
    rows, columns = int(size["height"]), int(size["width"])
    if rows > height or columns > width:
        raise _unclear(settings, "crop_size")
    return None if (rows, columns) == (height, width) else (rows, columns)
