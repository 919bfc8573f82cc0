"""Learning rate and configuration."""

import pytest

from meddistill.training.config import TrainingConfig
from meddistill.training.schedule import learning_rate, warmup_steps


def rates(total: int, **settings) -> list[float]:
    config = TrainingConfig(learning_rate=2.0, **settings)
    return [learning_rate(config, step=step, total=total) for step in range(total)]


def test_linear_warm_up_then_half_a_cosine() -> None:
    found = rates(12, warmup=4)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert found[8] == pytest.approx(1.0)
    assert found[4:] == sorted(found[4:], reverse=True)
    assert 0 < found[-1] < 0.1


def test_a_share_and_a_number_of_steps() -> None:
    assert warmup_steps(TrainingConfig(warmup=0.1), total=41) == 5
    assert warmup_steps(TrainingConfig(warmup=1), total=41) == 1
    assert warmup_steps(TrainingConfig(warmup=500), total=41) == 40


def test_short_and_constant_trainings() -> None:
    assert rates(1, warmup=100) == [2.0]
    assert rates(3, warmup=0, schedule="constant") == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "settings",
    [{"warmup": 1.0}, {"warmup": -1}, {"betas": (0.9, 1.0)}, {"batch_size": 0}, {"epochs": 0}, {"lr": 1.0}],
)
def test_wrong_settings_are_refused(settings) -> None:
    with pytest.raises(ValueError, match="validation error"):
        TrainingConfig(**settings)
