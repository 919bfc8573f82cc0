"""Rows without a caption: part of what looks at images, and of nothing that looks at texts."""

from dataclasses import replace

import pytest
import torch

from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.records import positives
from toy_training import (
    EVERY_OBJECTIVE,
    VOCABULARY,
    ToyStudent,
    ToyTeachers,
    gradients_of,
    toy_batch,
    toy_method,
    toy_step,
)

ROWS = list(range(20))
BATCH = toy_batch(ROWS, gaps=True)
CAPTIONED = [row for row, there in zip(ROWS, BATCH.captioned.tolist(), strict=True) if there]
EXACT = {"rtol": 1e-9, "atol": 1e-12}
CONTRASTIVE = {"method": "contrastive"}
LOSSES = {"contrastive": 1.0, "similarity_kl": 1.0, "interactive_contrastive": 1.0}
COMPARED = {**EVERY_OBJECTIVE, "objectives": LOSSES, "selection": {"kind": "available"}}
IMAGES = {**COMPARED, "objectives": {"feature_mse": 10.0, "masked_feature_distillation": {"patch_size": 2}}}
every_kind = pytest.mark.parametrize(
    "content", [CONTRASTIVE, COMPARED, EVERY_OBJECTIVE], ids=["student alone", "similarities", "every"]
)


def gradients(batch, content=EVERY_OBJECTIVE, **options) -> dict[str, torch.Tensor]:
    config = ContrastiveConfig if content["method"] == "contrastive" else EmbeddingConfig
    method, student = toy_method(config.model_validate(content)).double(), ToyStudent().double()
    toy_step(student, method, source=ToyTeachers(), **options)(batch, step=3)
    return gradients_of(student, method)


def test_the_batch_has_rows_of_both_kinds() -> None:
    assert 0 < len(CAPTIONED) < len(ROWS)


@every_kind
@pytest.mark.parametrize("micro_batch", [20, 3])
def test_the_text_tower_has_no_gradient_from_them(content, micro_batch) -> None:
    """Whatever stands where their tokens would be."""
    other = torch.randint(0, VOCABULARY, BATCH.tokens.shape, dtype=torch.int32)
    tokens = torch.where(BATCH.captioned[:, None], BATCH.tokens, other)
    assert not tokens.equal(BATCH.tokens)
    found = gradients(replace(BATCH, tokens=tokens), content, micro_batch=micro_batch)
    torch.testing.assert_close(found, gradients(BATCH, content, micro_batch=micro_batch), **EXACT)


@pytest.mark.parametrize("content", [CONTRASTIVE, COMPARED], ids=["student alone", "similarities"])
def test_losses_that_compare_texts_are_those_of_the_other_rows(content) -> None:
    """Neither positives nor negatives nor part of a denominator."""
    torch.testing.assert_close(gradients(BATCH, content), gradients(toy_batch(CAPTIONED), content), **EXACT)


def test_their_images_are_learnt_from() -> None:
    rest = [row for row in ROWS if row not in CAPTIONED]
    found = gradients(toy_batch(rest, gaps=True), IMAGES)
    assert found["0.image.0.weight"].abs().sum() > 0
    assert all(not each.any() for name, each in found.items() if name.startswith(("0.text", "0.words")))
    without = gradients(toy_batch(CAPTIONED), IMAGES)
    assert not torch.allclose(gradients(BATCH, IMAGES)["0.image.0.weight"], without["0.image.0.weight"])


def test_a_loss_of_images_is_the_mean_over_all_rows() -> None:
    """The text term of a teacher that reads is added where there is a text, and counted nowhere twice."""
    rest = [row for row in ROWS if row not in CAPTIONED]
    parts = [(toy_batch(CAPTIONED), len(CAPTIONED)), (toy_batch(rest, gaps=True), len(rest))]
    one = {**IMAGES, "objectives": {"feature_mse": 10.0}}
    names = ["image.0.weight", "words.weight"]

    def of(batch) -> dict[str, torch.Tensor]:
        method = toy_method(EmbeddingConfig.model_validate(one), names=["alpha"]).double()
        student = ToyStudent().double()
        toy_step(student, method, source=Everybody(["alpha"]))(batch, step=3)
        return {name: gradients_of(student)[f"0.{name}"] for name in names}

    whole = of(BATCH)
    weighted = {name: sum(of(batch)[name] * rows for batch, rows in parts) / len(ROWS) for name in names}
    torch.testing.assert_close(whole, weighted, **EXACT)


class Everybody(ToyTeachers):
    """Teachers that miss nothing but texts that are not there."""

    def outputs(self, batch):
        return super().outputs(replace(batch, samples=4 * batch.samples))  # 4 r is never 1 modulo 2


def test_a_batch_without_any_caption_leaves_the_text_tower_alone() -> None:
    nobody = replace(BATCH, text_group=-1 - torch.arange(len(BATCH)))
    found = gradients(nobody, CONTRASTIVE)
    assert all(not each.any() for each in found.values())
    assert all(each.isfinite().all() for each in found.values())


def test_equal_captions_are_positives_and_missing_ones_are_not() -> None:
    found = positives(torch.tensor([0, 1, 2, 2]), torch.tensor([-1, -2, 5, -4]))
    expected = torch.eye(4, dtype=torch.bool)
    expected[2, 3] = expected[3, 2] = True  # one image
    assert found.equal(expected)
