"""Agreement of two spaces: equal, turned, unrelated, constant."""

import numpy as np
import pytest

from meddistill.evaluation.engine.agreement import linear_cka, neighbour_overlap, space_agreement


def _space(n: int, dim: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_a_space_agrees_with_itself_turned_scaled_and_shifted() -> None:
    space = _space(60, 16, 0)
    turned = space @ np.linalg.qr(_space(16, 16, 1))[0] * 7 + 3
    assert linear_cka(space, turned) == pytest.approx(1, abs=1e-5)
    assert neighbour_overlap(space, space) == 1


def test_unrelated_spaces_do_not_agree_although_there_are_fewer_images_than_dimensions() -> None:
    """The plain estimator gives above 0.9 here."""
    values = [linear_cka(_space(50, 512, seed), _space(50, 512, seed + 100)) for seed in range(10)]
    assert abs(np.mean(values)) < 0.03
    overlap = np.mean([neighbour_overlap(_space(200, 32, s), _space(200, 32, s + 100)) for s in range(5)])
    assert overlap == pytest.approx(10 / 199, abs=0.02)


def test_cka_is_the_unbiased_estimator_of_its_definition() -> None:
    """HSIC as the mean of k_ij l_ij + k_ij l_qr - 2 k_ij l_iq over distinct i, j, q, r: all 5-image cases."""
    first, second = _space(5, 3, 0), _space(5, 4, 1)

    def hsic(left: np.ndarray, right: np.ndarray) -> float:
        k, l = left @ left.T, right @ right.T  # noqa: E741
        picks = [
            (i, j, q, r)
            for i in range(5)
            for j in range(5)
            for q in range(5)
            for r in range(5)
            if len({i, j, q, r}) == 4
        ]
        return float(np.mean([k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in picks]))

    left, right = first.astype(np.float64), second.astype(np.float64)
    oracle = hsic(left, right) / np.sqrt(hsic(left, left) * hsic(right, right))
    assert linear_cka(first, second) == pytest.approx(oracle, rel=1e-5)


def test_a_constant_space_agrees_with_nothing() -> None:
    assert linear_cka(np.ones((30, 4), np.float32), _space(30, 4, 0)) == 0


def test_modalities_with_too_few_images_are_left_out() -> None:
    modalities = ["ct"] * 30 + ["xray"] * 5 + [""] * 5
    found = list(space_agreement("s", "t", (_space(40, 4, 0), _space(40, 6, 1)), modalities))
    assert {(row.modality, row.measure, row.n) for row in found} == {
        ("", "cka", 40),
        ("", "neighbours", 40),
        ("ct", "cka", 30),
        ("ct", "neighbours", 30),
    }
