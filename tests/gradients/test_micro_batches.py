"""The gradient of a step is that of the global batch, however the towers were run."""

from dataclasses import replace

import pytest
import torch

from meddistill.data.draws import derive_seed
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.methods.patch_mask import kept_pixels
from meddistill.records import Batch, cut, join, positives
from meddistill.training.batches import chunks_of, on_device
from toy_training import (
    DEVICE,
    EMBEDDING,
    EVERY_OBJECTIVE,
    ToyStudent,
    ToyTeachers,
    gradients_of,
    toy_batch,
    toy_method,
    toy_step,
)

ROWS = list(range(12))
EXACT = {"rtol": 1e-9, "atol": 1e-12}


some_and_all = pytest.mark.parametrize("content", [EMBEDDING, EVERY_OBJECTIVE], ids=["some", "all"])


def toy_teachers(content) -> ToyTeachers:
    """With all objectives also rows of which a teacher has one tower."""
    return ToyTeachers(gaps=content is EVERY_OBJECTIVE)


def own_batch(content) -> Batch:
    """With all objectives also rows without a caption."""
    return toy_batch(ROWS, gaps=content is EVERY_OBJECTIVE)


def gradients(student: ToyStudent, content=EMBEDDING, **options) -> dict[str, torch.Tensor]:
    method = toy_method(EmbeddingConfig.model_validate(content))
    if student.log_scale.dtype == torch.float64:
        method.double()
    toy_step(student, method, source=toy_teachers(content), **options)(own_batch(content), step=3)
    return gradients_of(student, method)


def plain_autograd(student: ToyStudent, content, *, micro_batch: int) -> dict[str, torch.Tensor]:
    """The same loss with every graph kept and one backward, no leaves: what the step must reproduce."""
    method = toy_method(EmbeddingConfig.model_validate(content)).double().to(DEVICE)
    student = student.to(DEVICE)
    batch = on_device(own_batch(content), DEVICE)
    outputs = []
    for number, rows in enumerate(chunks_of(batch, micro_batch)):
        torch.manual_seed(derive_seed("dropout", 9, 3, 0, number))
        part = cut(batch, rows)
        seed = derive_seed("mask", 9, 3)
        samples = part.samples.to(DEVICE)
        shown = {
            name: kept_pixels(each, samples, height=4, width=4, seed=seed)
            for name, each in method.passes.items()
        }
        outputs.append(student(part, shown=shown))
    whole = replace(join(outputs), captioned=batch.captioned)
    on_it = {
        name: replace(
            each,
            image=each.image.to(DEVICE).double(),
            text=each.text.to(DEVICE).double(),
            image_available=each.image_available.to(DEVICE),
            text_available=each.text_available.to(DEVICE),
        )
        for name, each in toy_teachers(content).outputs(batch).items()
    }
    method.loss(
        whole,
        on_it,
        positives=positives(batch.image_group, batch.text_group),
        generator=torch.Generator().manual_seed(derive_seed("selection", 9, 3)),
    ).total.backward()
    return gradients_of(student, method)


@some_and_all
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("micro_batch", [12, 4, 5])
def test_a_step_has_the_gradient_of_plain_autograd(micro_batch, dropout, content) -> None:
    """With dropout this holds only if the second forward pass drops what the first one dropped."""
    found = gradients(ToyStudent(dropout=dropout).double(), content, micro_batch=micro_batch)
    expected = plain_autograd(ToyStudent(dropout=dropout).double(), content, micro_batch=micro_batch)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, **EXACT)


@some_and_all
@pytest.mark.parametrize("micro_batch", [1, 4, 5, 100])
def test_micro_batches_equal_one_batch(micro_batch, content) -> None:
    whole = gradients(ToyStudent().double(), content)
    parts = gradients(ToyStudent().double(), content, micro_batch=micro_batch)
    torch.testing.assert_close(parts, whole, **EXACT)
    assert whole["0.log_scale"].abs() > 0


def test_masked_images_have_a_gradient_of_their_own() -> None:
    objectives = {"masked_feature_distillation": {"weight": 1.0, "patch_size": 2}}
    found = gradients(ToyStudent().double(), {"method": "embedding", "objectives": objectives})
    assert found["0.image.0.weight"].abs().sum() > 0
    objectives = {"masked_feature_distillation": {"weight": 1.0, "patch_size": 2, "ratio": 0.25}}
    other = gradients(ToyStudent().double(), {"method": "embedding", "objectives": objectives})
    assert not torch.allclose(found["0.image.0.weight"], other["0.image.0.weight"])
    torch.testing.assert_close(found["0.text.2.weight"], other["0.text.2.weight"], **EXACT)


@some_and_all
@pytest.mark.parametrize("micro_batch", [4, 12])
def test_running_statistics_are_updated_once_and_by_whole_images(content, micro_batch) -> None:
    found = ToyStudent(batch_norm=True)
    gradients(found, content, micro_batch=micro_batch)
    expected = ToyStudent(batch_norm=True).to(DEVICE)
    batch = on_device(toy_batch(ROWS), DEVICE)
    for rows in chunks_of(batch, micro_batch):
        part = cut(batch, rows)
        expected(part)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(dict(found.named_buffers())[name], buffer)


def test_a_pass_that_fails_leaves_no_trace_in_running_statistics() -> None:
    class Failing(ToyStudent):
        def embed_images(self, rasters, *, keep=None):
            embeddings = super().embed_images(rasters, keep=keep)
            if keep is not None:
                raise RuntimeError
            return embeddings

    student, expected = Failing(batch_norm=True), ToyStudent(batch_norm=True).to(DEVICE)
    with pytest.raises(RuntimeError):
        gradients(student, EVERY_OBJECTIVE)
    batch = on_device(toy_batch(ROWS), DEVICE)
    expected(batch)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(dict(student.named_buffers())[name], buffer)


def test_a_frozen_tower_gets_no_gradient() -> None:
    student = ToyStudent()
    student.text.requires_grad_(False)
    student.words.requires_grad_(False)
    student.log_scale.requires_grad_(False)
    for micro_batch in (None, 4):
        student.zero_grad()
        names = gradients(student, micro_batch=micro_batch)
        assert "0.image.0.weight" in names
        assert not [name for name in names if name.startswith(("0.text", "0.words", "0.log_scale"))]


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_bfloat16_gives_every_parameter_nearly_the_same_gradient(micro_batch) -> None:
    """A weight that autocast had cast without gradient would be cut off; none may be."""
    exact, half = (
        gradients(ToyStudent()),
        gradients(ToyStudent(), micro_batch=micro_batch, precision="bfloat16"),
    )
    assert exact.keys() == half.keys()
    for name, gradient in half.items():
        assert gradient.dtype == torch.float32
        # A teacher that was drawn for no row has zeros in both.
        cosine = torch.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0)
        assert cosine > 0.98 or gradient.abs().sum() == exact[name].abs().sum() == 0, name


def test_a_method_without_teachers_needs_no_source() -> None:
    student = ToyStudent()
    step = toy_step(student, toy_method(ContrastiveConfig(method="contrastive")), micro_batch=5)
    step.source = None
    report = step(toy_batch(ROWS), step=0)
    assert report.loss.parts.keys() == {"contrastive"}
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_the_draw_depends_on_the_step_and_not_on_what_was_drawn_before() -> None:
    def loss(step: int) -> float:
        return toy_step(ToyStudent(), toy_method())(toy_batch(ROWS), step=step).loss.total.item()

    first = loss(1)
    torch.rand(5)
    assert loss(1) == first
    assert loss(2) != first
