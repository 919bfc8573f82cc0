"""Maps of all teachers into one space, against their formula and what they promise."""

from pathlib import Path

import numpy as np
import pytest
import torch
from projected_world import DIMS, projected_store, vectors

from meddistill.errors import StoreError
from meddistill.features.extract import extract
from meddistill.features.projections.config import JointPCAConfig
from meddistill.features.projections.fit import fit_maps
from meddistill.features.reader import FeatureStore
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher

CLIPS = ("alpha", "beta")
WIDTH = DIMS["alpha"] + DIMS["beta"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    return projected_store(tmp_path_factory.mktemp("joint"))


def joint(store: FeatureStore, tower: str) -> np.ndarray:
    """z of every pair of the store, from its definition."""
    pairs = store.tables.pairs
    rows = pairs[:, 0 if tower == "image" else 1]
    asked = [store.available(name, pairs[:, 0]) for name in CLIPS]
    blocks = []
    for name, mask in zip(CLIPS, asked, strict=True):
        found = vectors(store, name, tower)[rows]
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        blocks.append(np.where(mask[:, None], unit, 0.0))
    assert 0 < asked[1].sum() < len(pairs)
    return np.concatenate(blocks, axis=1) / np.sqrt(np.sum(asked, axis=0))[:, None]


def stacked(maps: dict) -> np.ndarray:
    return np.concatenate([maps[name].weight for name in CLIPS], axis=1).astype(np.float64)


def test_the_maps_are_the_blocks_of_the_leading_eigenvectors(store) -> None:
    maps = fit_maps(JointPCAConfig(kind="joint_pca"), store, CLIPS, student_dim=5)
    found = stacked(maps)
    z = np.concatenate([joint(store, tower) for tower in ("image", "text")])
    values, vectors_ = np.linalg.eigh(z.T @ z / len(z))
    expected = vectors_[:, ::-1][:, :5].T
    signs = np.sign((found * expected).sum(axis=1))
    np.testing.assert_allclose(found, expected * signs[:, None], atol=1e-4)
    kept = np.linalg.norm(z @ found.T) ** 2 / len(z)
    assert kept == pytest.approx(values[::-1][:5].sum(), rel=1e-5)


def test_with_room_for_all_products_are_the_mean_of_the_teachers_cosines(store) -> None:
    """Of pairs that ask the same teachers, across towers too; and spare channels stay zero."""
    maps = fit_maps(JointPCAConfig(kind="joint_pca"), store, CLIPS, student_dim=WIDTH + 3)
    image, text = (joint(store, tower) @ stacked(maps).T for tower in ("image", "text"))
    both = np.flatnonzero(store.available("beta", store.tables.pairs[:, 0]))
    pairs = store.tables.pairs[both]
    cosines = []
    for name in CLIPS:
        towers = [vectors(store, name, "image")[pairs[:, 0]], vectors(store, name, "text")[pairs[:, 1]]]
        ours, theirs = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in towers)
        cosines.append(ours @ theirs.T)
    np.testing.assert_allclose(image[both] @ text[both].T, np.mean(cosines, axis=0), atol=1e-5)
    assert not image[:, WIDTH:].any()


class Turned(ToyImages):
    """Says the same in other axes."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__(dim, seed)
        rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((dim, dim)))[0]
        self.weight = torch.nn.Parameter(self.weight.detach() @ torch.from_numpy(rotation.astype(np.float32)))


def test_teachers_that_differ_by_a_rotation_land_on_one_point(tmp_path: Path) -> None:
    plain = toy_teacher("plain", kind=ToyImages, dim=6)
    turned = toy_teacher("turned", kind=Turned, dim=6)
    samples = toy_samples(tmp_path / "images", 40)
    extract(tmp_path / "store", samples, {"plain": plain, "turned": turned}, SMALL)
    store = FeatureStore.open(tmp_path / "store")
    maps = fit_maps(JointPCAConfig(kind="joint_pca"), store, ("plain", "turned"), student_dim=6)
    first, second = (vectors(store, name, "image") for name in maps)
    assert np.abs(first - second).max() > 0.1
    first, second = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) @ maps[name].weight.T
        for name, rows in (("plain", first), ("turned", second))
    )
    np.testing.assert_allclose(first, second, atol=2e-3)
    assert np.linalg.norm(first, axis=1).min() > 0.5


def test_more_pairs_than_asked_for_are_drawn_by_seed(store) -> None:
    def maps(**options) -> bytes:
        config = JointPCAConfig(kind="joint_pca", **options)
        return fit_maps(config, store, CLIPS, student_dim=4)["alpha"].weight.tobytes()

    assert maps(rows=10) == maps(rows=10) != maps(rows=10, seed=1)
    assert maps(rows=10) != maps()
    assert maps(rows=len(store.tables.pairs)) == maps()


def test_a_teacher_that_the_draw_passes_over_is_refused(store) -> None:
    pairs = {"alpha": store.tables.pairs, "beta": store.tables.pairs[:1]}
    with pytest.raises(StoreError, match="got none for beta"):
        fit_maps(JointPCAConfig(kind="joint_pca", rows=3), store, CLIPS, student_dim=4, pairs=pairs)


def test_a_teacher_without_texts_joins_with_its_images(store) -> None:
    names = ("alpha", "eye")
    maps = fit_maps(JointPCAConfig(kind="joint_pca"), store, names, student_dim=DIMS["alpha"] + DIMS["eye"])
    pairs = store.tables.pairs
    unit = {}
    for name, tower in (("alpha", "image"), ("eye", "image"), ("alpha", "text")):
        found = vectors(store, name, tower)[pairs[:, 0 if tower == "image" else 1]]
        unit[name, tower] = found / np.linalg.norm(found, axis=1, keepdims=True)
    image = sum(unit[name, "image"] @ maps[name].weight.T for name in names) / np.sqrt(2)
    text = unit["alpha", "text"] @ maps["alpha"].weight.T
    cosines = unit["alpha", "image"] @ unit["alpha", "text"].T
    np.testing.assert_allclose(image @ text.T, cosines / np.sqrt(2), atol=1e-5)


def test_a_tower_counts_by_the_rows_that_a_teacher_is_asked_about(store) -> None:
    """Captions of images that only a teacher without texts knows are no rows of zeros."""
    pairs = store.tables.pairs
    few, others = pairs[:6], pairs[6:]
    maps = fit_maps(
        JointPCAConfig(kind="joint_pca"),
        store,
        ("beta", "eye"),
        student_dim=3,
        pairs={"beta": few, "eye": others},
    )
    found = np.concatenate([maps[name].weight for name in ("beta", "eye")], axis=1).astype(np.float64)

    def unit(name: str, tower: str, rows: np.ndarray) -> np.ndarray:
        at = vectors(store, name, tower)[rows]
        return at / np.linalg.norm(at, axis=1, keepdims=True)

    images = np.zeros((len(pairs), DIMS["beta"] + DIMS["eye"]))
    images[:6, : DIMS["beta"]] = unit("beta", "image", few[:, 0])
    images[6:, DIMS["beta"] :] = unit("eye", "image", others[:, 0])
    texts = np.pad(unit("beta", "text", few[:, 1]), ((0, 0), (0, DIMS["eye"])))
    second = [rows.T @ rows / len(rows) for rows in (images, texts)]
    assert [np.trace(each) for each in second] == pytest.approx([1, 1])
    expected = np.linalg.eigh(sum(second) / 2)[1][:, ::-1][:, :3].T
    signs = np.sign((found * expected).sum(axis=1))
    np.testing.assert_allclose(found, expected * signs[:, None], atol=1e-4)


def test_a_teacher_without_pairs_is_refused(store) -> None:
    pairs = {"alpha": store.tables.pairs, "beta": store.tables.pairs[:0]}
    with pytest.raises(StoreError, match="got none for beta"):
        fit_maps(JointPCAConfig(kind="joint_pca"), store, CLIPS, student_dim=4, pairs=pairs)
