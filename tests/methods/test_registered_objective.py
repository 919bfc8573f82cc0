"""An objective that only this file knows, from a recipe's words to a trained student."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import PositiveFloat, TypeAdapter, ValidationError

from meddistill.methods.config import EmbeddingConfig
from meddistill.objectives import config, registry
from meddistill.objectives.base import Objective, RowContext, over_towers, tower_pairs
from meddistill.objectives.needs import HiddenPatches, ObjectiveOptions
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs
from toy_training import ToyStudent, ToyTeachers, gradients_of, toy_batch, toy_method, toy_step

NAME = "toy_distance"
PASS = "half hidden"


class ToyOptions(ObjectiveOptions):
    """Of images alone, with a further pass, a distance with layers of its own."""

    requires: ClassVar = frozenset({"image"})
    is_distance: ClassVar[bool] = True
    own_layers: ClassVar[bool] = True

    power: PositiveFloat = 2.0

    @property
    def needs_captions(self) -> bool:
        return False

    @property
    def passes(self) -> dict[str, HiddenPatches]:
        return {PASS: HiddenPatches(patch_size=2, ratio=0.5)}


class ToyDistance(Objective):
    def __init__(self, *, power: float, student_dim: int, teacher_dim: int, seed: int) -> None:
        super().__init__()
        self.power = power
        self.gain = torch.nn.Parameter(torch.ones(teacher_dim) * (1 + 0 * seed * student_dim))

    def forward(self, student: StudentOutputs, teacher: TeacherOutputs, context: RowContext) -> RowLosses:
        both = [student, replace(student, image=student.passes[PASS])]
        losses = [over_towers(tower_pairs(each, teacher, context.mask), self._distance) for each in both]
        return RowLosses(total=losses[0].total + losses[1].total, count=losses[0].count)

    def _distance(self, pair):
        return ((pair.ours - pair.target) * self.gain).abs().pow(self.power).mean(dim=-1)


@pytest.fixture
def registered() -> Iterator[None]:
    registry.register(NAME, ToyDistance, ToyOptions)
    yield
    del registry.TEACHER_OBJECTIVES[NAME], config.REGISTERED[NAME]


@pytest.mark.usefixtures("registered")
def test_it_trains_student_and_layers_by_its_own_words() -> None:
    content = {"method": "embedding", "objectives": {"contrastive": 1, NAME: {"weight": 3, "power": 1.5}}}
    settings = EmbeddingConfig.model_validate(content)
    assert list(settings.chosen) == ["contrastive", NAME]
    assert not settings.only_captioned
    student, method = ToyStudent(), toy_method(settings)
    toy_step(student, method, source=ToyTeachers())(toy_batch(range(12)), step=0)
    moved = gradients_of(student, method)
    gains = [each for name, each in moved.items() if name.endswith(".gain")]
    assert len(gains) == 3
    assert all(each is not None and each.abs().sum() > 0 for each in gains)
    assert all(each.abs().sum() > 0 for name, each in moved.items() if name.startswith("0.image"))
    assert EmbeddingConfig.model_validate(settings.model_dump(mode="json")) == settings


def test_what_nobody_registered_is_refused_with_a_guess() -> None:
    adapter = TypeAdapter(EmbeddingConfig)
    with pytest.raises(ValidationError, match=r"got feature_mes\. Did you mean `feature_mse`"):
        adapter.validate_python({"method": "embedding", "objectives": {"feature_mes": 1}})
    with pytest.raises(ValueError, match="must be new"):
        registry.register("feature_mse", ToyDistance, ToyOptions)
