"""Tensors on the disk. A full disk is an OSError here, as it is everywhere else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from meddistill.files import follow_umask, reraise_os_error, sync_file


def save_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """A state dict as safetensors, flushed to the disk. Tensors that share memory are written out each."""
    # Cloned: the format refuses tied weights and views.
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with reraise_os_error(SafetensorError):
        save_file(plain, path)
    follow_umask(path)
    sync_file(path)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Nested tensors and numbers in torch's own format, flushed to the disk."""
    # Into a handle: with a path, torch says of a full disk only that a position is unexpected.
    with reraise_os_error(RuntimeError), path.open("wb") as handle:
        torch.save(dict(state), handle)
    sync_file(path)
