"""FoldedAttention: torch's numbers, without copies of the weights."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from meddistill.teachers.attention import FoldedAttention, fold_attention


@pytest.fixture
def inner() -> nn.MultiheadAttention:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval().requires_grad_(False)
    nn.init.normal_(attention.in_proj_bias)
    return attention


@pytest.mark.parametrize("causal", [False, True])
def test_equals_torch(inner: nn.MultiheadAttention, causal: bool) -> None:
    states = torch.randn(3, 7, 16)
    mask = torch.full((7, 7), float("-inf")).triu(1) if causal else None
    ours, weights = FoldedAttention(inner)(states, states, states, need_weights=False, attn_mask=mask)
    theirs, _ = inner(states, states, states, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(ours, theirs)
    assert weights is None


def test_other_calls_go_to_torch(inner: nn.MultiheadAttention) -> None:
    states, other = torch.randn(3, 7, 16), torch.randn(3, 5, 16)
    folded = FoldedAttention(inner)
    cross, _ = folded(states, other, other, need_weights=False)
    torch.testing.assert_close(cross, inner(states, other, other, need_weights=False)[0])
    _, weights = folded(states, states, states, need_weights=True)
    assert weights is not None
    padding = torch.zeros(3, 7, dtype=torch.bool)
    padding[:, 5:] = True
    masked, _ = folded(states, states, states, need_weights=False, key_padding_mask=padding)
    expected, _ = inner(states, states, states, need_weights=False, key_padding_mask=padding)
    torch.testing.assert_close(masked, expected)


def test_only_plain_attention_is_replaced() -> None:
    model = nn.ModuleDict(
        {
            "plain": nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True)),
            "sequence_first": nn.MultiheadAttention(8, 2),
            "extra_key": nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True),
            "widths": nn.MultiheadAttention(8, 2, batch_first=True, kdim=4, vdim=4),
        }
    )
    fold_attention(model)
    assert isinstance(model["plain"][0], FoldedAttention)
    assert all(
        isinstance(model[name], nn.MultiheadAttention) for name in ("sequence_first", "extra_key", "widths")
    )


def _batched_products(attention: nn.Module) -> int:
    states = torch.randn(4, 7, 16, dtype=torch.bfloat16)
    mask = torch.zeros(7, 7, dtype=torch.bfloat16)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as record:
        attention(states, states, states, need_weights=False, attn_mask=mask)
    return sum(event.count for event in record.key_averages() if event.key == "aten::bmm")


def test_frozen_weights_are_not_copied_for_every_sample(inner: nn.MultiheadAttention) -> None:
    inner.to(torch.bfloat16)
    # If torch stops doing it, FoldedAttention has no purpose left.
    assert _batched_products(inner) > 0
    assert _batched_products(FoldedAttention(inner)) == 0
