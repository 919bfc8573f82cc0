"""AdamW with clipping, decay where it belongs, and no update from what is not finite."""

import pytest
import torch

from meddistill.errors import NonFiniteError
from meddistill.training.optimizer import Optimizer
from meddistill.training.processes import Processes
from meddistill.training.watch import NonFiniteWatch
from toy_training import DEVICE, ToyStudent, toy_batch, toy_config, toy_method, toy_step


def make(**settings) -> tuple[ToyStudent, Optimizer]:
    student = ToyStudent().to(DEVICE)
    method = toy_method().to(DEVICE)
    return student, Optimizer(student=student, method=method, config=toy_config(**settings))


def fill(optimizer: Optimizer, value: float) -> None:
    for parameter in optimizer.parameters:
        parameter.grad = torch.full_like(parameter, value)


def update(optimizer: Optimizer, *, rate: float = 0.1) -> None:
    norm = optimizer.gradient_norm()
    optimizer.update(rate=rate, gradient_norm=norm, finite=norm.isfinite())


def snapshot(optimizer: Optimizer) -> list[torch.Tensor]:
    state = optimizer.state_dict()["state"].values()
    tensors = [*optimizer.parameters, *(value for each in state for value in each.values())]
    return [tensor.detach().clone() for tensor in tensors]


def test_decay_spares_biases_norms_and_the_logit_scale() -> None:
    student, optimizer = make(weight_decay=0.5)
    before = {name: each.detach().clone() for name, each in student.named_parameters()}
    fill(optimizer, 0.0)
    update(optimizer)
    for name, parameter in student.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if parameter.ndim >= 2 else before[name]
        torch.testing.assert_close(parameter.detach(), expected)


def test_the_first_update_has_the_size_of_the_rate() -> None:
    student, optimizer = make(weight_decay=0.0, clip_norm=None, eps=1e-12)
    before = student.words.weight.detach().clone()
    fill(optimizer, -3.0)
    update(optimizer, rate=0.01)
    torch.testing.assert_close(student.words.weight.detach(), before + 0.01)


def test_the_whole_gradient_is_clipped_by_its_norm() -> None:
    _, optimizer = make(clip_norm=0.5)
    fill(optimizer, 2.0)
    number = sum(parameter.numel() for parameter in optimizer.parameters)
    assert optimizer.gradient_norm().item() == pytest.approx(2.0 * number**0.5, rel=1e-5)
    update(optimizer)
    assert optimizer.gradient_norm().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(value) -> None:
    """Neither weights nor moments nor step counts, and the next update is as if it had not been there."""
    _, spoilt = make()
    _, clean = make()
    for optimizer in (spoilt, clean):
        fill(optimizer, 1.0)
        update(optimizer)
    before = snapshot(spoilt)
    fill(spoilt, 1.0)
    spoilt.parameters[0].grad.view(-1)[0] = value
    update(spoilt)
    assert all(old.equal(new) for old, new in zip(before, snapshot(spoilt), strict=True))
    for optimizer in (spoilt, clean):
        fill(optimizer, 0.5)
        update(optimizer)
    assert all(one.equal(other) for one, other in zip(snapshot(spoilt), snapshot(clean), strict=True))


def test_a_late_look_names_the_first_step_that_was_not_finite_and_its_samples() -> None:
    student, method = ToyStudent(), toy_method()
    step = toy_step(student, method)
    watch = NonFiniteWatch(
        ids=[f"id-{row}" for row in range(48)], processes=Processes(cpu=DEVICE.type == "cpu")
    )
    norm = torch.tensor(1.0, device=DEVICE)
    watch.record(step(toy_batch([0, 1, 2, 3]), step=0), step=0, gradient_norm=norm)
    watch.look()
    watch.record(step(toy_batch([4, 5, 6]), step=1), step=1, gradient_norm=norm)
    with torch.no_grad():
        student.words.weight[toy_batch([9]).tokens[0, 0]] = torch.nan
    seen = watch.record(step(toy_batch([7, 8, 9]), step=2), step=2, gradient_norm=norm)
    watch.record(step(toy_batch([30, 31]), step=3), step=3, gradient_norm=norm)
    assert not seen
    with pytest.raises(NonFiniteError, match="in step 2 ") as error:
        watch.look()
    assert "id-9" in str(error.value)
    assert "id-30" not in str(error.value)
    watch.look()


def test_an_overflow_with_finite_embeddings_names_the_whole_step() -> None:
    watch = NonFiniteWatch(ids=["a", "b", "c"], processes=Processes(cpu=DEVICE.type == "cpu"))
    report = toy_step(ToyStudent(), toy_method())(toy_batch([0, 2]), step=0)
    watch.record(report, step=0, gradient_norm=torch.tensor(torch.inf, device=DEVICE))
    with pytest.raises(NonFiniteError, match=r"all embeddings are finite\)\. Samples: a, c\."):
        watch.look()
