"""Selection and weighting."""

import pytest
import torch

from meddistill.balancing.build import build_weighting
from meddistill.balancing.config import (
    AvailableConfig,
    BatchDrawConfig,
    FixedConfig,
    RandomDrawConfig,
    TeacherDroppingConfig,
    UniformConfig,
)
from meddistill.balancing.selection import (
    Available,
    BatchDraw,
    RandomDraw,
    TeacherDropping,
    build_selection,
)
from meddistill.balancing.weighting import Fixed, Uniform
from meddistill.errors import ConfigError
from toy_balancing import generator, mask, toy_context
from toy_training import DEVICE


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


@pytest.mark.parametrize("rule", [Available(), RandomDraw(), BatchDraw()])
def test_what_was_selected_stays_where_losses_do_not_matter(rule) -> None:
    selected = rule.select(mask([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]), generator())
    assert rule.drop_by_loss(torch.rand(4, 3, device=DEVICE), selected, generator()).equal(selected)


def test_batch_draw_takes_one_teacher_for_all_rows_that_have_it() -> None:
    available = mask([[1, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
    for seed in range(20):
        drawn = BatchDraw().select(available, generator(seed))
        teacher = drawn.any(dim=0)
        assert teacher.sum() == 1
        assert drawn.equal(available & teacher)


def test_batch_draw_has_chances_in_proportion_to_available_rows() -> None:
    available = mask([[1, 0, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]])
    number = 4000
    drawn = sum(BatchDraw().select(available, generator(seed)).any(dim=0).double() for seed in range(number))
    expected = torch.tensor([3, 0, 1, 1], dtype=torch.float64) / 5
    assert (drawn.cpu() / number - expected).abs().max() < 5 * 0.5 / number**0.5
    assert drawn[1] == 0


def test_batch_draw_without_any_available_teacher_draws_none() -> None:
    assert not BatchDraw().select(mask([[0, 0], [0, 0]]), generator()).any()


def test_teacher_dropping_selects_all_before_the_losses_are_known() -> None:
    available = mask([[1, 0, 1], [0, 0, 0]])
    assert TeacherDropping().select(available, generator()).equal(available)


def test_teacher_dropping_always_keeps_the_highest_loss() -> None:
    losses = torch.tensor([[1.0, 3.0, 2.0], [9.0, 1.0, 2.0], [0.0, 0.0, 5.0], [1.0, 1.0, 1.0]], device=DEVICE)
    selected = mask([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]])
    highest = mask([[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    for seed in range(20):
        kept = TeacherDropping().drop_by_loss(losses, selected, generator(seed))
        assert (kept & ~selected).sum() == 0
        assert (highest & ~kept).sum() == 0
    assert TeacherDropping(1.0).drop_by_loss(losses, selected, generator()).equal(highest)
    assert TeacherDropping(0.0).drop_by_loss(losses, selected, generator()).equal(selected)


@pytest.mark.parametrize("probability", [0.5, 0.2])
def test_teacher_dropping_drops_each_other_teacher_by_itself(probability) -> None:
    rows = 20_000
    losses = torch.tensor([[1.0, 3.0, 2.0]], device=DEVICE).repeat(rows, 1)
    kept = TeacherDropping(probability).drop_by_loss(losses, mask([[1, 1, 1]]).repeat(rows, 1), generator(4))
    first, third = kept[:, 0].double(), kept[:, 2].double()
    tolerance = 5 * 0.5 / rows**0.5
    assert abs(first.mean() - (1 - probability)) < tolerance
    assert abs(third.mean() - (1 - probability)) < tolerance
    assert abs((first * third).mean() - (1 - probability) ** 2) < tolerance


def test_dropping_depends_on_its_generator_alone() -> None:
    losses, selected = torch.rand(64, 3, device=DEVICE), mask([[1, 1, 1]]).repeat(64, 1)
    kept = [TeacherDropping().drop_by_loss(losses, selected, generator(seed)) for seed in (1, 1, 2)]
    assert kept[0].equal(kept[1])
    assert not kept[0].equal(kept[2])


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (AvailableConfig(), Available),
        (RandomDrawConfig(), RandomDraw),
        (BatchDrawConfig(), BatchDraw),
        (TeacherDroppingConfig(), TeacherDropping),
    ],
)
def test_recipes_name_the_selections(config, kind) -> None:
    assert type(build_selection(config)) is kind
    assert build_selection(TeacherDroppingConfig(probability=0.25)).probability == 0.25


@pytest.mark.parametrize("weighting", [Uniform(), Fixed([1.0, 3.0, 2.0])])
def test_weights_sum_to_one_over_the_selected(weighting) -> None:
    selected = mask([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
    weights = weighting.to(DEVICE).weights(toy_context(selected))
    assert weights.sum(dim=1).tolist() == pytest.approx([1, 1, 1, 0])
    assert weights[~selected].abs().sum() == 0


def test_a_missing_teacher_changes_only_the_normalization_of_the_others() -> None:
    weighting = Fixed([1.0, 3.0, 2.0]).to(DEVICE)
    whole = weighting.weights(toy_context(mask([[1, 1, 1]])))[0]
    without = weighting.weights(toy_context(mask([[1, 0, 1]])))[0]
    rest = whole * torch.tensor([1, 0, 1], device=DEVICE)
    torch.testing.assert_close(without, rest / rest.sum())


def test_a_row_whose_selected_teachers_all_have_factor_zero_has_no_weight() -> None:
    weights = Fixed([0.0, 1.0]).to(DEVICE).weights(toy_context(mask([[1, 0], [1, 1]])))
    assert weights.tolist() == [[0, 0], [0, 1]]


def test_fixed_weights_must_name_the_teachers() -> None:
    config = FixedConfig(weights={"alpha": 1, "omega": 2})
    with pytest.raises(ConfigError) as error:
        build_weighting(config, teachers=("alpha", "beta"))
    assert len(error.value.mistakes) == 2
    assert isinstance(build_weighting(UniformConfig(), teachers=("alpha",)), Uniform)
    with pytest.raises(ValueError, match="above 0"):
        FixedConfig(weights={"alpha": 0})
