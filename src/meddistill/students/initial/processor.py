"""How a model of transformers wants its pixels: mean, std and resampling of its image processor."""

from typing import Any

from meddistill.errors import CheckpointError
from meddistill.imaging.published import known_interpolation, pixel_scale
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.initial.start import Preprocessing

_FILES = ("preprocessor_config.json", "processor_config.json")


def processor_settings(folder: ModelFolder) -> dict[str, Any]:
    """The settings of the folder's image processor, its class's defaults among them.

    Raises CheckpointError for a folder without.
    """
    if not any(name in folder.files for name in _FILES):
        msg = (
            f"`init` must hold {_FILES[0]}, which states how pixels are normalised; {folder.path} does not. "
            "Copy it from the model's page."
        )
        raise CheckpointError(msg)
    from transformers import AutoImageProcessor

    settings: dict[str, Any] = AutoImageProcessor.from_pretrained(
        folder.path, local_files_only=True
    ).to_dict()
    return settings


def preprocessing_of_folder(folder: ModelFolder) -> Preprocessing:
    """The folder's normalisation and resampling as an open_clip `preprocess_cfg`."""
    settings = processor_settings(folder)
    mean, std = pixel_scale(settings)
    return {
        "mean": list(mean),
        "std": list(std),
        "interpolation": known_interpolation(settings.get("resample", 2)),
    }
