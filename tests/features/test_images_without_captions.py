"""A store of images some or all of which have no caption: what is asked, and what sources and maps give."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_feature_sources import batch_of

from meddistill.data.samples import Samples
from meddistill.data.view_rule import ViewRule
from meddistill.features.availability import availability
from meddistill.features.config import AvailabilityConfig
from meddistill.features.extract import extract
from meddistill.features.projections.config import JointPCAConfig, LinearAutoencoderConfig, PCAConfig
from meddistill.features.projections.fit import fit_maps
from meddistill.features.reader import FeatureStore
from meddistill.features.sources import OnlineTeachers, StoredTeachers
from meddistill.features.verify import verify
from toy_features import SMALL, ToyClip, ToyImages, toy_samples, toy_teacher, tree

ROWS = 12
EXACT = SMALL.model_copy(update={"precision": "float32"})
PROJECTIONS = [
    PCAConfig(kind="pca", dim=3),
    JointPCAConfig(kind="joint_pca", dim=3),
    LinearAutoencoderConfig(kind="linear_autoencoder", dim=3, steps=20, hidden_dim=4, batch_size=16),
]
every_projection = pytest.mark.parametrize("config", PROJECTIONS, ids=lambda each: each.kind)


def teachers():
    return {"clip": toy_teacher("clip"), "seeing": toy_teacher("seeing", kind=ToyImages, seed=2, dim=4)}


def captions_of(samples: Samples, *, but: int) -> Samples:
    """The same rows, every `but`-th without its caption; 1 takes all."""
    texts = tuple("" if row % but == 0 else text for row, text in enumerate(samples.texts))
    return replace(samples, texts=texts if any(texts) else None, table_hash="")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Samples, FeatureStore]:
    folder = tmp_path_factory.mktemp("mixed")
    samples = captions_of(toy_samples(folder / "images", ROWS), but=3)
    return samples, extract(folder / "store", samples, teachers(), EXACT)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Samples, FeatureStore]:
    folder = tmp_path_factory.mktemp("alone")
    samples = captions_of(toy_samples(folder / "images", ROWS), but=1)
    return samples, extract(folder / "store", samples, teachers(), EXACT)


def test_teachers_read_the_captions_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    embed = ToyClip.embed_texts

    def counting(self, texts):
        read.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(ToyClip, "embed_texts", counting)
    samples = captions_of(toy_samples(tmp_path / "images", ROWS), but=3)
    store = extract(tmp_path / "store", samples, teachers(), EXACT)
    assert sorted(read) == sorted(set(samples.captions))
    assert store.manifest.rows("images") == ROWS
    assert store.manifest.rows("texts") == len(set(samples.captions))
    assert len(store.tables.pairs) == len(samples.captions)
    assert store.holds_all_of(["clip", "seeing"])


def test_images_without_a_caption_stand_in_no_pair(mixed: tuple[Samples, FeatureStore]) -> None:
    samples, store = mixed
    without = np.flatnonzero(~samples.captioned)
    shown = store.tables.shown
    assert sorted(shown[:, 0].tolist()) == list(range(ROWS))
    assert sorted(shown[shown[:, 1] < 0, 0].tolist()) == without.tolist()
    assert shown[shown[:, 1] >= 0].tolist() == store.tables.pairs.tolist()


def test_captions_that_come_later_are_added(mixed: tuple[Samples, FeatureStore], tmp_path: Path) -> None:
    """The image is known already: it is embedded once."""
    samples = toy_samples(tmp_path / "images", ROWS)
    extract(tmp_path / "store", captions_of(samples, but=3), teachers(), EXACT)
    before = {name: content for name, content in tree(tmp_path / "store").items() if "/image-" in name}
    store = extract(tmp_path / "store", samples, teachers(), EXACT)
    after = {name: content for name, content in tree(tmp_path / "store").items() if "/image-" in name}
    assert after == before
    assert len(store.tables.pairs) == ROWS
    assert len(store.tables.shown) == ROWS
    assert verify(tmp_path / "store").damages == ()


@pytest.mark.parametrize("which", ["mixed", "alone"])
def test_stored_equals_online(which: str, request: pytest.FixtureRequest) -> None:
    samples, store = request.getfixturevalue(which)
    asked = teachers()
    batch = batch_of(samples, [3, 0, 5, 7, 6], [0] * 5, asked, ViewRule())
    stored = StoredTeachers(store, samples, tuple(asked)).outputs(batch)
    online = OnlineTeachers(asked).outputs(batch)
    captioned = torch.from_numpy(samples.captioned[[3, 0, 5, 7, 6]])
    assert batch.captioned.equal(captioned)
    for name, found in stored.items():
        fields, expected = found.per_row(), online[name].per_row()
        assert fields.keys() == expected.keys()
        for field in fields:
            torch.testing.assert_close(fields[field], expected[field], rtol=1e-5, atol=1e-5)
        assert found.image_available.all()
    assert stored["seeing"].text is None
    if which == "alone":
        assert stored["clip"].text is None
    else:
        assert stored["clip"].text_available.equal(captioned)
        assert not stored["clip"].text[~captioned].any()


def test_a_row_without_a_caption_agrees_with_everybody(mixed: tuple[Samples, FeatureStore]) -> None:
    samples, store = mixed
    cards = {name: store.card(name) for name in ("clip",)}
    rules = AvailabilityConfig(agreement_quantile=0.5)
    found = availability(samples, cards, rules, store=store).masks["clip"]
    assert found[~samples.captioned].all()
    assert 0 < found[samples.captioned].sum() < samples.captioned.sum()


@every_projection
def test_maps_are_fitted_from_images_alone(config, alone: tuple[Samples, FeatureStore]) -> None:
    _, store = alone
    maps = fit_maps(config, store, ["clip", "seeing"], student_dim=5)
    for each in maps.values():
        assert np.isfinite(each.weight).all()
        assert each.weight.any()


@pytest.mark.parametrize("config", PROJECTIONS[:2], ids=lambda each: each.kind)
def test_a_map_is_that_of_all_images_and_the_captions_there_are(
    config, mixed: tuple[Samples, FeatureStore], tmp_path: Path
) -> None:
    """Images that have a caption in no row count as images, and no caption counts for them."""
    _, store = mixed
    found = fit_maps(config, store, ["clip"], student_dim=5)["clip"]
    images = np.arange(ROWS)
    vectors = {
        "image": store.read("clip", "image", images, views=np.zeros(ROWS, dtype=np.int64)),
        "text": store.read("clip", "text", store.tables.pairs[:, 1]),
    }
    if config.kind == "joint_pca":
        unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in vectors.items()}
        moment = sum(rows.T @ rows / len(rows) for rows in unit.values()) / 2
    else:
        vectors["text"] = store.read("clip", "text", np.unique(store.tables.pairs[:, 1]))
        means = np.stack([rows.mean(axis=0) for rows in vectors.values()])
        gaps = means - means.mean(axis=0)
        covariances = [np.cov(rows.T, bias=True) for rows in vectors.values()]
        moment = (sum(covariances) + gaps.T @ gaps) / 2
    leading = np.linalg.eigh(moment)[1][:, ::-1][:, :3]
    own = np.linalg.svd(found.weight)[2][:3].T
    np.testing.assert_allclose(own @ own.T, leading @ leading.T, atol=1e-4)
