"""Fusion networks: what is missing has no say, and what knows the pairing has nothing to teach by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from meddistill.errors import ConfigError
from meddistill.evaluation.audit.pairing import off_diagonal_mass
from meddistill.fusion.config import FusionConfig
from meddistill.fusion.network import FusionNetwork
from meddistill.methods.base import TeacherSpace
from meddistill.records import Batch, TeacherOutputs, positives
from toy_fusion import DIM, fusion_config, fusion_trainee
from toy_training import ToyTeachers, toy_batch, toy_spaces

every_network = pytest.mark.parametrize(
    ("network", "inputs"),
    [(network, inputs) for network in ("gated_mlp", "cross_attention") for inputs in ("within", "across")],
)


def outputs_of(batch: Batch) -> dict[str, TeacherOutputs]:
    return ToyTeachers(gaps=True).outputs(batch)


def trained_a_little(network: str, inputs: str) -> FusionNetwork:
    """A network none of whose weights are zero."""
    config = FusionConfig(method="fusion", network=network, inputs=inputs, dim=DIM, hidden=16)
    made = FusionNetwork(config, teachers=toy_spaces(), seed=3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


@every_network
def test_what_stands_in_a_missing_row_changes_nothing_not_even_nan(network: str, inputs: str) -> None:
    made, outputs = trained_a_little(network, inputs), outputs_of(toy_batch(range(16), gaps=True))
    spoilt = {
        name: replace(
            each,
            image=torch.where(each.image_available[:, None], each.image, torch.nan),
            text=torch.where(each.text_available[:, None], each.text, torch.nan),
        )
        for name, each in outputs.items()
    }
    for tower in ("image", "text"):
        expected, found = made.fused(tower, outputs), made.fused(tower, spoilt)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        made.zero_grad()
        found.square().sum().backward()
        grads = [each.grad for each in made.parameters() if each.grad is not None]
        assert grads
        assert all(bool(each.isfinite().all()) for each in grads)


@every_network
def test_a_row_depends_on_itself_alone_and_is_zero_without_a_source(network: str, inputs: str) -> None:
    made, batch = trained_a_little(network, inputs), toy_batch(range(16), gaps=True)
    whole = made.fused("text", outputs_of(batch))
    alone = torch.cat([made.fused("text", outputs_of(toy_batch([row], gaps=True))) for row in range(16)])
    torch.testing.assert_close(alone, whole)
    there = torch.stack([each.text_available for each in outputs_of(batch).values()]).any(dim=0)
    assert not there.all()
    assert torch.equal(whole.any(dim=1), there)


def test_within_a_modality_the_other_is_not_seen_and_across_it_is() -> None:
    outputs = outputs_of(toy_batch(range(16)))
    turned = {name: replace(each, text=-each.text) for name, each in outputs.items()}
    for network in ("gated_mlp", "cross_attention"):
        within, across = trained_a_little(network, "within"), trained_a_little(network, "across")
        assert torch.equal(within.fused("image", outputs), within.fused("image", turned))
        assert not torch.allclose(across.fused("image", outputs), across.fused("image", turned))


def test_gates_of_a_row_sum_to_one_over_the_teachers_that_are_there() -> None:
    made, outputs = trained_a_little("gated_mlp", "within"), outputs_of(toy_batch(range(16)))
    tower = made.towers["image"]
    there = torch.stack([outputs[name].image_available for name in outputs], dim=1)
    inputs = [functional.normalize(each.image, dim=-1) for each in outputs.values()]
    tokens = torch.stack([each(rows) for each, rows in zip(tower.maps, inputs, strict=True)], dim=1)
    weights = tower.merge.weights(tokens * there[..., None], there)
    assert torch.equal(weights > 0, there)
    torch.testing.assert_close(weights.sum(dim=1), there.any(dim=1).float())


def test_a_fresh_network_is_a_weighted_mean_of_linear_maps() -> None:
    made = FusionNetwork(fusion_config(), teachers=toy_spaces(["alpha", "gamma"]), seed=3)
    row = toy_batch([3])
    outputs = ToyTeachers(["alpha", "gamma"]).outputs(row)
    absent = torch.zeros(1, dtype=torch.bool)
    only = {**outputs, "gamma": replace(outputs["gamma"], image_available=absent)}
    only["alpha"] = replace(only["alpha"], image_available=~absent)
    expected = made.towers["image"].maps[0](functional.normalize(outputs["alpha"].image, dim=-1))
    torch.testing.assert_close(made.fused("image", only), expected)


def test_teachers_that_give_nothing_to_fuse_are_told_all_at_once() -> None:
    with pytest.raises(ConfigError, match="two at least") as refused:
        FusionNetwork(fusion_config(), teachers={"one": TeacherSpace(dims={"image": 4})}, seed=0)
    assert refused.value.mistakes == (
        "`teachers` must be two at least to be fused; got one. Name another, or leave the stage out.",
        "`teachers` must have one at least that embeds texts; got none among one. "
        "Add one, or leave the stage out.",
    )
    seeing = {name: TeacherSpace(dims={"image": 4}) for name in ("one", "two")}
    reading = TeacherSpace(dims={"text": 4})
    FusionNetwork(fusion_config(), teachers={**seeing, "three": reading}, seed=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": "across", "objectives": {"contrastive": 1.0, "feature_mse": 1.0}}, "compare rows"),
        ({"inputs": "across", "objectives": {"similarity_kl": 1.0}}, "compare rows"),
        ({"inputs": "across", "patience": 2}, "patience"),
        ({"objectives": {"masked_feature_distillation": 1.0}}, "no images"),
        ({"views": "consistent"}, "fixed"),
        ({"teachers": ["alpha"]}, "at least 2"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        fusion_config(**changes)


def test_across_looks_at_features_alone_by_default() -> None:
    assert list(fusion_config(inputs="across").chosen) == ["cosine_smooth_l1"]
    assert list(fusion_config().chosen) == ["contrastive", "cosine_smooth_l1"]


def test_a_network_that_sees_pairs_learns_the_pairing_and_nothing_by_contrast() -> None:
    """The mass beside the pairs vanishes for new pairs too, of random vectors that have nothing in common."""

    def random_pairs(seed: int) -> dict[str, TeacherOutputs]:
        draws = torch.Generator().manual_seed(seed)
        every = torch.ones(64, dtype=torch.bool)
        return {
            name: TeacherOutputs.of_rows(
                every, image=torch.randn(64, dim, generator=draws), text=torch.randn(64, dim, generator=draws)
            )
            for name, dim in (("alpha", 10), ("gamma", 10))
        }

    def mass(inputs: str, steps: int) -> float:
        config = FusionConfig(method="fusion", network="cross_attention", inputs=inputs, dim=32, hidden=64)
        trainee = fusion_trainee(config, teachers=toy_spaces(["alpha", "gamma"]))
        optimizer = torch.optim.AdamW(trainee.parameters(), lr=3e-3, weight_decay=0)
        for step in range(steps):
            outputs = trainee.of_outputs(random_pairs(step))
            image, text = (functional.normalize(each, dim=-1) for each in (outputs.image, outputs.text))
            logits = 30.0 * image @ text.T
            target = torch.arange(len(logits))
            optimizer.zero_grad()
            functional.cross_entropy(logits, target).backward()
            optimizer.step()
        new = trainee.of_outputs(random_pairs(10_000))
        image, text = (each.detach().numpy() for each in (new.image, new.text))
        return off_diagonal_mass(image, text, np.eye(64, dtype=bool), scale=30.0)

    assert mass("across", 150) < 0.05
    assert mass("within", 60) > 0.9  # there is nothing to be found


def test_the_mass_by_hand() -> None:
    images, texts = np.eye(2, 3, dtype=np.float32), np.eye(2, 3, dtype=np.float32)
    alone = np.eye(2, dtype=bool)
    assert off_diagonal_mass(images, texts, alone, scale=2.0) == pytest.approx(1 / (1 + np.exp(2)))
    assert off_diagonal_mass(images, np.ones_like(texts), alone, scale=2.0) == pytest.approx(0.5)
    same = positives(torch.tensor([0, 0]), torch.tensor([0, 1])).numpy()
    assert off_diagonal_mass(images, texts, same, scale=2.0) == pytest.approx(0)
