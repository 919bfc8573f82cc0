"""Maps from a store's statistics: PCA and PHI-S against their formulas and other libraries."""

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from projected_world import DIMS, projected_store, vectors
from sklearn.decomposition import PCA

from meddistill.errors import StoreError
from meddistill.features.projections.config import PCAConfig, PhiSConfig
from meddistill.features.projections.fit import fit_maps
from meddistill.features.projections.hadamard import equal_variances, hadamard, hartley
from meddistill.features.projections.maps import LinearMap, load_maps, save_maps
from meddistill.features.projections.pairs import statistics_of_pairs
from meddistill.features.projections.pca import pca_map
from meddistill.features.projections.phi_s import phi_s_map
from meddistill.features.projections.pooled import Pooled
from meddistill.features.reader import FeatureStore
from meddistill.features.statistics import Statistics, statistics_of


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    return projected_store(tmp_path_factory.mktemp("projections"))


def applied(each: LinearMap, rows: np.ndarray) -> np.ndarray:
    return rows @ each.weight.T.astype(np.float64) + each.bias


def skewed(rows: int, dim: int, *, seed: int = 0) -> np.ndarray:
    """Rows of a narrow cone: far from zero, with variances over six powers of ten."""
    numbers = np.random.default_rng(seed)
    rotation = np.linalg.qr(numbers.standard_normal((dim, dim)))[0]
    return numbers.standard_normal((rows, dim)) * np.logspace(0, -3, dim) @ rotation + numbers.random(dim)


def statistics(**towers: np.ndarray) -> dict[str, Statistics]:
    return {name: statistics_of([rows], rows.shape[1]) for name, rows in towers.items()}


def two_towers(dim: int, *, rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return skewed(rows, dim), skewed(rows, dim, seed=1) + 2.0


def test_two_towers_of_equal_size_are_one_population() -> None:
    image, text = two_towers(6)
    pooled = Pooled.of(statistics(image=image, text=text), teacher="t")
    both = np.concatenate([image, text])
    np.testing.assert_allclose(pooled.mean, both.mean(axis=0))
    covariance = (pooled.eigenvectors * pooled.eigenvalues) @ pooled.eigenvectors.T
    np.testing.assert_allclose(covariance, np.cov(both.T, bias=True), atol=1e-12)
    assert (np.diff(pooled.eigenvalues) <= 0).all()


def test_towers_count_alike_however_many_rows_they_have() -> None:
    """A training sample has one image and one caption, whatever the store holds."""
    image, text = two_towers(5)
    few = Pooled.of(statistics(image=image, text=text), teacher="t")
    many = Pooled.of(statistics(image=np.tile(image, (7, 1)), text=text), teacher="t")
    np.testing.assert_allclose(many.mean, few.mean)
    np.testing.assert_allclose(many.eigenvalues, few.eigenvalues)


def test_pca_is_that_of_scikit_learn() -> None:
    image, text = two_towers(9)
    pooled = Pooled.of(statistics(image=image, text=text), teacher="t")
    ours, theirs = pca_map(pooled, dim=4), PCA(n_components=4).fit(np.concatenate([image, text]))
    for rows in (image, text):
        expected = theirs.transform(rows)
        found = applied(ours, rows)
        signs = np.sign((found * expected).sum(axis=0))
        np.testing.assert_allclose(found, expected * signs, atol=1e-5)


def test_pca_into_more_channels_changes_no_distance(store) -> None:
    (found,) = fit_maps(PCAConfig(kind="pca"), store, ["alpha"], student_dim=20).values()
    assert found.weight.shape == (20, DIMS["alpha"])
    rows = vectors(store, "alpha", "image")
    before = np.linalg.norm(rows[:, None] - rows[None, :], axis=-1)
    projected = applied(found, rows)
    after = np.linalg.norm(projected[:, None] - projected[None, :], axis=-1)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert not projected[:, DIMS["alpha"] :].any()


@pytest.mark.parametrize("dim", [1, 2, 4, 16, 64])
def test_powers_of_two_are_sylvesters(dim) -> None:
    np.testing.assert_allclose(hadamard(dim) * np.sqrt(dim), scipy.linalg.hadamard(dim), atol=1e-12)


@pytest.mark.parametrize("dim", [12, 20, 24, 28, 36, 40, 60, 76, 384, 512, 640, 768, 1024, 1152])
def test_hadamard_matrices_are_orthogonal_with_equal_entries(dim) -> None:
    found = hadamard(dim)
    np.testing.assert_allclose(np.abs(found), 1 / np.sqrt(dim))
    np.testing.assert_allclose(found @ found.T, np.eye(dim), atol=1e-12)


@pytest.mark.parametrize("dim", [3, 6, 7, 10, 14, 92, 100])
def test_dims_without_one_are_said_to_have_none(dim) -> None:
    assert hadamard(dim) is None
    np.testing.assert_allclose(hartley(dim) @ hartley(dim).T, np.eye(dim), atol=1e-10)


@pytest.mark.parametrize("variances", ["spread", "one", "equal", "few"])
def test_rotations_make_variances_equal(variances) -> None:
    values = {
        "spread": np.logspace(2, -8, 11),
        "one": np.eye(11)[0],
        "equal": np.full(11, 0.3),
        "few": np.array([5.0, 5.0, 5.0] + [0.0] * 8),
    }[variances]
    found = equal_variances(hartley(11), values)
    np.testing.assert_allclose(found @ found.T, np.eye(11), atol=1e-12)
    spread = ((found * values) @ found.T).diagonal()
    np.testing.assert_allclose(spread, values.mean(), rtol=1e-12)


@pytest.mark.parametrize("dim", [7, 8, 10, 12, 24])
def test_every_channel_of_phi_s_has_mean_zero_and_variance_one(dim) -> None:
    image, text = two_towers(dim)
    found = phi_s_map(Pooled.of(statistics(image=image, text=text), teacher="t"))
    both = applied(found, np.concatenate([image, text]))
    np.testing.assert_allclose(both.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(both.var(axis=0), 1.0, atol=1e-5)


@pytest.mark.parametrize("dim", [7, 12])
def test_errors_in_phi_s_invert_alike_in_all_directions(dim) -> None:
    """AᵀA = I/φ²: whitening, which also has unit variances, would fail this."""
    image, text = two_towers(dim)
    pooled = Pooled.of(statistics(image=image, text=text), teacher="t")
    weight = phi_s_map(pooled).weight.astype(np.float64)
    np.testing.assert_allclose(weight.T @ weight * pooled.eigenvalues.mean(), np.eye(dim), atol=1e-5)


def test_phi_s_by_its_formula() -> None:
    image, text = two_towers(8)
    both = np.concatenate([image, text])
    values, vectors_ = np.linalg.eigh(np.cov(both.T, bias=True))
    values, vectors_ = values[::-1], vectors_[:, ::-1]
    vectors_ = vectors_ * np.sign(vectors_[np.abs(vectors_).argmax(axis=0), range(8)])
    matrix = scipy.linalg.hadamard(8) / np.sqrt(8) @ vectors_.T / np.sqrt(values.mean())
    found = phi_s_map(Pooled.of(statistics(image=image, text=text), teacher="t"))
    np.testing.assert_allclose(applied(found, image), (image - both.mean(axis=0)) @ matrix.T, atol=1e-5)


def test_maps_of_a_store_use_images_and_texts(store) -> None:
    maps = fit_maps(PhiSConfig(kind="phi_s"), store, [*DIMS], student_dim=5)
    for name, dim in DIMS.items():
        assert maps[name].weight.shape == (dim, dim)
    towers = [applied(maps["alpha"], vectors(store, "alpha", tower)) for tower in ("image", "text")]
    mean = np.mean([tower.mean(axis=0) for tower in towers], axis=0)
    second = np.mean([(tower**2).mean(axis=0) for tower in towers], axis=0)
    np.testing.assert_allclose(mean, 0.0, atol=1e-4)
    np.testing.assert_allclose(second, 1.0, atol=1e-4)
    eye = applied(maps["eye"], vectors(store, "eye", "image"))
    np.testing.assert_allclose(eye.var(axis=0), 1.0, atol=1e-4)


def test_maps_know_only_what_the_teacher_is_asked_about(store) -> None:
    """beta knows x-rays alone; its maps are those of their images and texts, each once."""
    (found,) = fit_maps(PhiSConfig(kind="phi_s"), store, ["beta"], student_dim=5).values()
    pairs = store.tables.pairs
    known = pairs[store.available("beta", pairs[:, 0])]
    assert 0 < len(known) < len(pairs)
    towers = {
        tower: vectors(store, "beta", tower)[np.unique(known[:, column])]
        for column, tower in enumerate(("image", "text"))
    }
    expected = phi_s_map(Pooled.of(statistics(**towers), teacher="beta"))
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-4, atol=1e-6)
    everything = phi_s_map(Pooled.of(store.statistics("beta"), teacher="beta"))
    assert np.abs(found.weight - everything.weight).max() > 1e-2


def test_statistics_are_of_these_pairs_and_not_of_as_many_others(store) -> None:
    """As many pairs as the store has, but x-rays alone, each several times."""
    pairs = store.tables.pairs
    xrays = pairs[store.available("beta", pairs[:, 0])]
    repeated = np.resize(xrays, pairs.shape)
    found, expected = (statistics_of_pairs(store, "beta", each) for each in (repeated, xrays))
    assert_same_statistics(found, expected)
    assert found["image"].count == len(np.unique(xrays[:, 0])) < store.output("beta", "image").rows


def test_statistics_are_of_whole_images(tmp_path) -> None:
    several = projected_store(tmp_path, views=3)
    found = statistics_of_pairs(several, "alpha", several.tables.pairs)
    expected = statistics(**{tower: vectors(several, "alpha", tower) for tower in ("image", "text")})
    assert_same_statistics(found, expected)
    assert several.statistics("alpha")["image"].count == 3 * found["image"].count


def assert_same_statistics(found, expected) -> None:
    assert found.keys() == expected.keys()
    for tower, each in found.items():
        assert each.count == expected[tower].count
        np.testing.assert_allclose(each.mean, expected[tower].mean, rtol=1e-9)
        np.testing.assert_allclose(each.covariance, expected[tower].covariance, rtol=1e-9, atol=1e-12)


def test_a_teacher_that_says_one_thing_is_refused() -> None:
    with pytest.raises(StoreError, match="teacher 'dull' must give embeddings that vary"):
        Pooled.of(statistics(image=np.ones((5, 3))), teacher="dull")


def test_maps_come_back_from_their_file_bit_for_bit(store, tmp_path) -> None:
    maps = fit_maps(PCAConfig(kind="pca"), store, [*DIMS], student_dim=4)
    maps["beta"] = LinearMap(weight=maps["beta"].weight, bias=maps["beta"].bias, unit_inputs=True)
    save_maps(maps, tmp_path / "maps.safetensors", fitted_from={"a": 1})
    found = load_maps(tmp_path / "maps.safetensors", fitted_from={"a": 1})
    assert found.keys() == maps.keys()
    for name, each in maps.items():
        assert found[name].weight.tobytes() == each.weight.tobytes()
        assert found[name].bias.tobytes() == each.bias.tobytes()
        assert found[name].unit_inputs == each.unit_inputs == (name == "beta")


def test_absent_damaged_and_foreign_files_are_not_taken(store, tmp_path: Path) -> None:
    path = tmp_path / "maps.safetensors"
    assert load_maps(path, fitted_from={}) is None
    save_maps(fit_maps(PCAConfig(kind="pca"), store, ["eye"], student_dim=4), path, fitted_from={"a": 1})
    assert load_maps(path, fitted_from={"a": 2}) is None
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-3], b"", b"nothing"):
        path.write_bytes(damaged)
        assert load_maps(path, fitted_from={"a": 1}) is None
