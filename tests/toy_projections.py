"""Fixed maps for the toy teachers, and methods that use them."""

from dataclasses import replace

import numpy as np

from meddistill.features.projections.maps import LinearMap
from meddistill.methods.base import Method
from meddistill.methods.build import build_method
from meddistill.methods.config import EmbeddingConfig
from toy_training import STUDENT_DIM, TEACHER_DIMS, toy_spaces


def toy_maps(*, dim: int | None = None, unit_inputs: bool = False) -> dict[str, LinearMap]:
    """Random maps, on three scales; to the teachers' own dims without `dim`."""
    maps = {}
    for number, (name, teacher_dim) in enumerate(TEACHER_DIMS.items()):
        numbers = np.random.default_rng(number)
        weight = numbers.standard_normal((dim or teacher_dim, teacher_dim)) * 10.0 ** (number - 1)
        bias = numbers.standard_normal(len(weight))
        maps[name] = LinearMap(
            weight=weight.astype(np.float32), bias=bias.astype(np.float32), unit_inputs=unit_inputs
        )
    return maps


def projected(options: EmbeddingConfig, maps: dict[str, LinearMap] | None = None) -> Method:
    """The method of a configuration with fixed maps, by default the random ones."""
    own = options.projection.kind == "phi_s"
    maps = maps or toy_maps(dim=None if own else getattr(options.projection, "dim", None) or STUDENT_DIM)
    spaces = {name: replace(space, target_map=maps[name]) for name, space in toy_spaces().items()}
    return build_method(options, student_dim=STUDENT_DIM, teachers=spaces, seed=5)
