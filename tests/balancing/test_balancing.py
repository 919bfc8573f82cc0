"""Selection, weighting and the one reduction."""

import pytest
import torch

from meddistill.balancing.config import FixedConfig, UniformConfig
from meddistill.balancing.reduce import reduce
from meddistill.balancing.selection import Available, RandomDraw
from meddistill.balancing.weighting import Fixed, Uniform, build_weighting
from meddistill.errors import ConfigError
from toy_training import DEVICE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mask(rows: list[list[int]]) -> torch.Tensor:
    return torch.tensor(rows, device=DEVICE).bool()


def test_available_takes_all() -> None:
    available = mask([[1, 0, 1], [0, 0, 0]])
    assert Available().select(available, generator()).equal(available)


def test_random_draw_takes_one_available_teacher_a_row() -> None:
    available = mask([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]).repeat(50, 1)
    drawn = RandomDraw().select(available, generator())
    assert (drawn & ~available).sum() == 0
    assert drawn.sum(dim=1).equal(available.any(dim=1).long())


def test_random_draw_is_uniform_over_the_available() -> None:
    patterns = [[1, 0, 0, 0], [1, 0, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]
    number = 20_000
    for pattern in patterns:
        drawn = RandomDraw().select(mask([pattern]).repeat(number, 1), generator(3)).double().mean(dim=0)
        expected = torch.tensor(pattern, dtype=torch.float64) / sum(pattern)
        # Five standard deviations of a proportion over 20,000 draws.
        assert (drawn.cpu() - expected).abs().max() < 5 * 0.5 / number**0.5


def test_random_draw_depends_on_its_generator_alone() -> None:
    available = mask([[1, 1, 1]]).repeat(64, 1)
    assert RandomDraw().select(available, generator(1)).equal(RandomDraw().select(available, generator(1)))
    assert (
        not RandomDraw().select(available, generator(1)).equal(RandomDraw().select(available, generator(2)))
    )


@pytest.mark.parametrize("weighting", [Uniform(), Fixed([1.0, 3.0, 2.0])])
def test_weights_sum_to_one_over_the_selected(weighting) -> None:
    selected = mask([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
    weights = weighting.to(DEVICE).weights(torch.rand(4, 3, device=DEVICE), selected)
    assert weights.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0])
    assert weights[~selected].abs().sum() == 0


def test_a_missing_teacher_changes_only_the_normalisation_of_the_others() -> None:
    weighting = Fixed([1.0, 3.0, 2.0]).to(DEVICE)
    losses = torch.rand(1, 3, device=DEVICE)
    whole = weighting.weights(losses, mask([[1, 1, 1]]))[0]
    without = weighting.weights(losses, mask([[1, 0, 1]]))[0]
    rest = whole * torch.tensor([1, 0, 1], device=DEVICE)
    torch.testing.assert_close(without, rest / rest.sum())


def test_a_row_whose_selected_teachers_all_have_factor_zero_has_no_weight() -> None:
    weights = Fixed([0.0, 1.0]).to(DEVICE).weights(torch.rand(2, 2, device=DEVICE), mask([[1, 0], [1, 1]]))
    assert weights.tolist() == [[0, 0], [0, 1]]


def test_fixed_weights_must_name_the_teachers() -> None:
    config = FixedConfig(weights={"alpha": 1, "omega": 2})
    with pytest.raises(ConfigError) as error:
        build_weighting(config, teachers=("alpha", "beta"))
    assert len(error.value.mistakes) == 2
    assert isinstance(build_weighting(UniformConfig(), teachers=("alpha",)), Uniform)
    with pytest.raises(ValueError, match="above 0"):
        FixedConfig(weights={"alpha": 0})


def test_reduce_is_one_quotient() -> None:
    totals = torch.tensor([[6.0, 0.0], [1.0, 8.0]], device=DEVICE)
    counts = torch.tensor([[3.0, 0.0], [1.0, 2.0]], device=DEVICE)
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]], device=DEVICE)
    # (6 + 0.5 + 4) / (3 + 0.5 + 1), not a mean of means.
    assert reduce(totals, counts, weights).item() == pytest.approx(10.5 / 4.5)


def test_reduce_of_nothing_is_zero_with_zero_gradient() -> None:
    totals = torch.zeros(2, 2, device=DEVICE, requires_grad=True)
    nothing = torch.zeros(2, 2, device=DEVICE)
    loss = reduce(totals, nothing, nothing)
    loss.backward()
    assert loss.item() == 0
    assert totals.grad.abs().sum() == 0
