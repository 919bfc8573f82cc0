"""Ranks: against torchmetrics, on ties and copies, and for several models together."""

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate

from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.retrieval.task import Gallery, best_ranks, joint


def _space(rows: int, dim: int, seed: int) -> np.ndarray:
    return normalized(np.random.default_rng(seed).normal(size=(rows, dim)))


@pytest.mark.parametrize("k", [1, 5, 10])
def test_hit_rates_equal_torchmetrics_with_several_right_answers(k: int) -> None:
    random = np.random.default_rng(0)
    queries, answers = _space(300, 16, 1), _space(60, 16, 2)
    positives = [np.unique(random.integers(0, 60, random.integers(1, 4))) for _ in range(300)]
    target = np.zeros((300, 60), dtype=bool)
    for row, right in enumerate(positives):
        target[row, right] = True
    index = np.repeat(np.arange(300), 60)
    oracle = RetrievalHitRate(top_k=k)(
        torch.from_numpy((queries @ answers.T).ravel()),
        torch.from_numpy(target.ravel()),
        indexes=torch.from_numpy(index),
    )
    assert (best_ranks(queries, answers, positives) <= k).mean() == pytest.approx(float(oracle))


def test_ties_count_half_and_copies_of_the_right_answer_not_at_all() -> None:
    """By hand: answers 0 (right), 1 and 2 (wrong, level), 3 (wrong, above), 4 (right, level)."""
    answers = np.array([[0.5], [0.5], [0.5], [0.9], [0.5]], dtype=np.float32)
    ranks = best_ranks(np.ones((1, 1), dtype=np.float32), answers, [np.array([0, 4])])
    assert ranks.tolist() == [1 + 1 + 2 / 2]


def test_a_collapsed_model_gets_the_middle_rank() -> None:
    same = np.tile(_space(1, 8, 0), (101, 1))
    ranks = best_ranks(same, same, [np.array([row]) for row in range(101)])
    assert set(ranks) == {51.0}
    assert not (ranks <= 10).any()


def test_rounding_does_not_break_a_tie() -> None:
    """One caption under two embeddings that differ in the last bit only."""
    answers = np.array([[1.0, 0.0], [np.nextafter(np.float32(1), np.float32(0)), 0.0]], dtype=np.float32)
    ranks = best_ranks(np.array([[1.0, 0.0]], dtype=np.float32), answers, [np.array([1])])
    assert ranks.tolist() == [1.5]


def test_positives_go_both_ways() -> None:
    """Image 0 with captions 0 and 1; image 1 with caption 0; one row is written twice."""
    gallery = Gallery(
        images=np.array([0, 0, 1, 0]),
        texts=np.array([0, 1, 0, 0]),
        first_image=np.array([0, 2]),
        first_text=np.array([0, 1]),
    )
    assert [each.tolist() for each in gallery.positives(0)] == [[0, 1], [0]]
    assert [each.tolist() for each in gallery.positives(1)] == [[0, 1], [0]]


def test_the_joint_space_ranks_as_the_mean_of_standardized_similarities() -> None:
    pairs = [(_space(40, 8, 0), _space(30, 8, 1)), (_space(40, 5, 2) + 1, _space(30, 5, 3) * 4)]
    standardized = []
    for images, texts in pairs:
        similarity = images.astype(np.float64) @ texts.astype(np.float64).T
        standardized.append((similarity - similarity.mean()) / similarity.std())
    oracle = np.mean(standardized, axis=0)
    images, texts = joint(pairs)
    found = images @ texts.T
    slope, _ = np.polyfit(found.ravel(), oracle.ravel(), 1)
    shift = oracle.mean() - slope * found.mean()
    assert slope > 0
    np.testing.assert_allclose(slope * found + shift, oracle, atol=1e-4)


def test_a_collapsed_member_has_no_say() -> None:
    good = (_space(20, 8, 0), _space(10, 8, 1))
    collapsed = (np.tile(_space(1, 4, 2), (20, 1)), np.tile(_space(1, 4, 3), (10, 1)))
    positives = [np.array([row % 10]) for row in range(20)]
    np.testing.assert_array_equal(
        best_ranks(*joint([good, collapsed]), positives), best_ranks(*good, positives)
    )
    np.testing.assert_array_equal(best_ranks(*joint([collapsed, collapsed]), positives), np.full(20, 5.5))
