"""Any id that a recipe may have for a teacher is one for torch too."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from meddistill.methods.build import build_method
from meddistill.methods.by_teacher import ByTeacher
from meddistill.methods.config import EmbeddingConfig
from toy_projections import toy_maps
from toy_rows import embeddings, outputs, step
from toy_training import STUDENT_DIM, TEACHER_DIMS, toy_spaces

ODD = ("half", "train", "forward", "training", "pop", "a.b", "a.b.c", "T_destination")
CONFIG = {"method": "embedding", "objectives": {"feature_mse": 1.0}, "rescale": "none"}


def test_odd_ids_are_keys_and_ordinary_ones_stay_the_names_of_the_state() -> None:
    found = ByTeacher({name: nn.Linear(2, 1, bias=False) for name in (*ODD, "clip-b_16")})
    assert [*found] == [*found.keys()] == [*dict(found.items())] == [*ODD, "clip-b_16"]
    assert "half" in found
    assert "halves" not in found
    assert "a:b" not in found
    plain = nn.ModuleDict({"clip-b_16": found["clip-b_16"]})
    assert plain.state_dict().keys() < found.state_dict().keys()
    other = ByTeacher({name: nn.Linear(2, 1, bias=False) for name in found})
    other.load_state_dict(found.state_dict())
    for name, module in found.items():
        torch.testing.assert_close(other[name].weight, module.weight, rtol=0, atol=0)
    del found["half"]
    assert "half" not in found


@pytest.mark.parametrize("projection", ["learned_head", "pca", "joint_pca"])
def test_a_method_has_the_same_loss_under_any_ids(projection: str) -> None:
    """But for learned heads, whose draws depend on the id."""
    options = EmbeddingConfig.model_validate({**CONFIG, "projection": {"kind": projection}})
    maps, given, found = toy_maps(dim=STUDENT_DIM), outputs(), []
    for ids in (dict(zip(TEACHER_DIMS, ODD, strict=False)), {name: name for name in TEACHER_DIMS}):
        spaces = {ids[name]: replace(space, target_map=maps[name]) for name, space in toy_spaces().items()}
        method = build_method(options, student_dim=STUDENT_DIM, teachers=spaces, seed=5)
        teachers = {ids[name]: each for name, each in given.items()}
        found.append(step(method, embeddings(), teachers).total.item())
    assert math.isfinite(found[0])
    assert projection == "learned_head" or found[0] == found[1]
