"""MMKD-CLIP's linear maps: what they keep, what they share, and that they come out the same again."""

import numpy as np
import pytest
import torch
from projected_world import DIMS, projected_store, vectors

from meddistill.errors import StoreError
from meddistill.features.extract import extract
from meddistill.features.projections.config import LinearAutoencoderConfig
from meddistill.features.projections.fit import fit_maps
from meddistill.features.projections.maps import LinearMap
from meddistill.features.reader import FeatureStore
from toy_features import SMALL, ToyClip, toy_samples, toy_teacher

DIM = 5
LATE = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    return projected_store(tmp_path_factory.mktemp("autoencoder"))


def config(**changes) -> LinearAutoencoderConfig:
    options = {"hidden_dim": 32, "steps": 30, "batch_size": 16, "learning_rate": 1e-2, **changes}
    return LinearAutoencoderConfig(kind="linear_autoencoder", **options)


def fitted(store: FeatureStore, *teachers: str, **changes) -> dict[str, LinearMap]:
    return fit_maps(config(**changes), store, teachers or [*DIMS], student_dim=DIM)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def lost(found: LinearMap, towers: list[np.ndarray]) -> float:
    """The share of the variance that no linear map can rebuild from the projected vectors."""
    rows = np.concatenate([unit(tower) for tower in towers])
    codes = np.concatenate([rows @ found.weight.T + found.bias, np.ones((len(rows), 1))], axis=1)
    rest = rows - codes @ np.linalg.lstsq(codes, rows, rcond=None)[0]
    return float((rest**2).sum() / ((rows - rows.mean(axis=0)) ** 2).sum())


def test_fitting_keeps_more_of_what_a_teacher_says(store) -> None:
    towers = [vectors(store, "alpha", tower) for tower in ("image", "text")]
    quiet = {"dropout": 0.0, "noise": 0.0}
    before = fitted(store, "alpha", steps=1, **quiet)["alpha"]
    after = fitted(store, "alpha", steps=LATE, **quiet)["alpha"]
    assert lost(after, towers) < 0.5 * lost(before, towers)


def test_one_map_serves_both_towers_and_has_the_students_dim(store) -> None:
    maps = fitted(store)
    assert {name: each.weight.shape for name, each in maps.items()} == {
        name: (DIM, dim) for name, dim in DIMS.items()
    }
    assert all(each.unit_inputs for each in maps.values())
    assert fitted(store, dim=7)["beta"].weight.shape == (7, DIMS["beta"])


def test_texts_have_a_part_in_the_map(tmp_path) -> None:
    """The same images, other captions: another map."""
    found = []
    for seed in (0, 1):
        samples = toy_samples(tmp_path / "images", 12)
        if seed:
            texts = tuple(f"{text} seen again" for text in samples.texts)
            samples = type(samples)(refs=samples.refs, texts=texts, modalities=samples.modalities)
        extract(tmp_path / str(seed), samples, {"alpha": toy_teacher("alpha")}, SMALL)
        found.append(fitted(FeatureStore.open(tmp_path / str(seed)), "alpha")["alpha"].weight)
    assert not np.allclose(*found)


def test_the_same_seed_gives_the_same_bits_and_leaves_the_generators_alone(store) -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again, other = fitted(store), fitted(store), fitted(store, seed=1)
    assert torch.get_rng_state().equal(state)
    for name in DIMS:
        assert first[name].weight.tobytes() == again[name].weight.tobytes()
        assert first[name].bias.tobytes() == again[name].bias.tobytes()
        assert not np.allclose(first[name].weight, other[name].weight)


class Loud(ToyClip):
    """The same directions, 64 times as long."""

    def __init__(self, dim: int, seed: int) -> None:
        super().__init__(dim, seed)
        self.weight.data.mul_(64)


def test_lengths_of_a_teachers_vectors_do_not_matter(tmp_path) -> None:
    """MMKD-CLIP's are of unit length; others are brought there."""
    samples = toy_samples(tmp_path / "images", 12)
    options = SMALL.model_copy(update={"precision": "float32"})
    found = []
    for kind in (ToyClip, Loud):
        place = tmp_path / kind.__name__
        extract(place, samples, {"alpha": toy_teacher("alpha", kind=kind)}, options)
        found.append(fitted(FeatureStore.open(place), "alpha")["alpha"].weight)
    np.testing.assert_allclose(*found, atol=1e-4)


def test_only_pairs_that_a_teacher_knows_are_drawn(store, monkeypatch) -> None:
    """beta knows x-rays alone."""
    drawn: list[np.ndarray] = []
    read = store.read

    def noting(teacher, output, rows, **more):
        if output == "image":
            drawn.append(rows)
        return read(teacher, output, rows, **more)

    monkeypatch.setattr(store, "read", noting)
    fitted(store, "beta")
    assert store.available("beta", np.concatenate(drawn)).all()
    assert not store.available("beta", np.arange(store.output("beta", "image").rows)).all()


def test_a_teacher_that_knows_no_image_is_refused(tmp_path) -> None:
    samples = toy_samples(tmp_path / "images", 12)
    extract(tmp_path / "store", samples, {"alpha": toy_teacher("alpha", modalities=("fundus",))}, SMALL)
    with pytest.raises(StoreError, match="got none for alpha"):
        fitted(FeatureStore.open(tmp_path / "store"), "alpha")
