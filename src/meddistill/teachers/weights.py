"""Weight files: which ones a folder's model is in, and that they hold weights and nothing that runs."""

import argparse
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open

from meddistill.errors import TeacherError

PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt")
_SUFFIXES: Final = (".safetensors", *PICKLES)


def weight_files(folder: Path, *, preferred: Sequence[str]) -> tuple[Path, ...]:
    """The files of `folder` that hold the model, checked by `check_weights`.

    `preferred` are file names or patterns in falling preference; the first that matches wins, with all
    files it matches (shards). Without a match, the folder's only weight file.

    Raises
    ------
    TeacherError
        If there is no weight file, if it is unclear which one is meant, or if one is not plain weights.
    """
    found = next((files for pattern in preferred if (files := sorted(folder.glob(pattern)))), None)
    if found is None:
        found = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            msg = (
                f"`{folder.name}` must hold its weights in one of {', '.join(preferred)}, or in a single "
                f"weight file; got {names}. Rename the right file."
            )
            raise TeacherError(msg)
    for path in found:
        check_weights(path)
    return tuple(found)


def check_weights(path: Path) -> None:
    """Refuse a file that is damaged or that would run code when it is loaded.

    Safetensors are opened, so that a truncated file is found. Pickles are read with torch's
    `weights_only` reader, which builds tensors and plain containers and nothing else; nothing is loaded
    with the full reader anywhere. Tensors are mapped, not read, where the file's format allows it.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                file.keys()
        else:
            _read_pickle(path)
    except pickle.UnpicklingError as error:
        msg = (
            f"`{path.name}` must hold plain weights; it holds Python objects that would run code when loaded "
            f"({_first_line(error)}). It was not loaded. Take the model's .safetensors, or convert the file "
            "where you trust it."
        )
        raise TeacherError(msg) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        msg = (
            f"`{path.name}` must be a whole weight file; it cannot be read ({_first_line(error)}). "
            "Fetch or copy it again."
        )
        raise TeacherError(msg) from error


def _read_pickle(path: Path) -> None:
    # timm's own training checkpoints carry their arguments as a Namespace, which is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            torch.load(path, map_location="meta", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            torch.load(path, map_location="meta", weights_only=True)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]
