"""A fixed map of one teacher's space, and the file in which the maps of a stage are kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from meddistill.features.files import write_whole

# One entry of the header: the format's writer puts several in no fixed order.
_HEADER: Final = "meddistill"


@dataclass(frozen=True, kw_only=True)
class LinearMap:
    """y = W x + b, for images and texts alike; with `unit_inputs` of x/|x|₂.

    `weight` `[dim, teacher_dim]` and `bias` `[dim]` in float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    unit_inputs: bool = False

    @classmethod
    def centred(cls, weight: NDArray[np.float64], mean: NDArray[np.float64]) -> "LinearMap":
        """y = W (x - μ)."""
        return cls(weight=weight.astype(np.float32), bias=(-weight @ mean).astype(np.float32))


def save_maps(maps: Mapping[str, LinearMap], path: Path, *, fitted_from: Mapping[str, Any]) -> None:
    """Write the maps by teacher, whole or not at all, with the plain values that decide them.

    Raises StoreError where `path` cannot be written.
    """
    tensors = {}
    for name, each in maps.items():
        tensors[f"{name}/weight"] = np.ascontiguousarray(each.weight)
        tensors[f"{name}/bias"] = np.ascontiguousarray(each.bias)
    header = {
        "fitted_from": fitted_from,
        "unit_inputs": sorted(name for name, each in maps.items() if each.unit_inputs),
        "sha256": _digest(tensors),
    }
    write_whole(path, save(tensors, metadata={_HEADER: json.dumps(header, sort_keys=True)}))


def load_maps(path: Path, *, fitted_from: Mapping[str, Any]) -> dict[str, LinearMap] | None:
    """The maps of a file; None where it is absent, damaged, or was fitted from something else."""
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(_HEADER, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    plain = json.loads(json.dumps(fitted_from))
    if header.get("fitted_from") != plain or header.get("sha256") != _digest(tensors):
        return None
    unit = set(header["unit_inputs"])
    names = [name.removesuffix("/bias") for name in tensors if name.endswith("/bias")]
    return {
        name: LinearMap(
            weight=tensors[f"{name}/weight"],
            bias=tensors[f"{name}/bias"],
            unit_inputs=name in unit,
        )
        for name in names
    }


def _digest(tensors: Mapping[str, NDArray[np.float32]]) -> str:
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(repr((name, tensors[name].shape)).encode())
        whole.update(tensors[name].tobytes())
    return whole.hexdigest()
