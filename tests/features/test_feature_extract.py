"""Extraction: what is stored, what is added later, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from meddistill.data.keys import image_keys, text_key, text_keys
from meddistill.errors import StoreError
from meddistill.features.config import ExtractOptions
from meddistill.features.extract import extract
from meddistill.features.format import OutputManifest, StoreManifest
from meddistill.features.layouts import estimate
from meddistill.features.reader import FeatureStore
from meddistill.features.statistics import QUANTILES
from meddistill.features.summary import summarize
from meddistill.features.workers import Workers
from meddistill.imaging import ViewPolicy, decode, rasterize, view
from meddistill.imaging.options import DecodeOptions
from meddistill.progress import SilentProgress
from toy_features import OF_ALL_ROWS, SMALL, ToyImages, ToyTokens, toy_samples, toy_teacher, tree


class MessageLog(SilentProgress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def rasters_of(samples, rows, teacher, index=0, policy=None):
    keys = image_keys(samples)
    pictures = [decode(samples.refs[row], samples.options) for row in rows]
    if index:
        pictures = [
            view(picture, image_id=keys[row], index=index, policy=policy)
            for row, picture in zip(rows, pictures, strict=True)
        ]
    geometry = teacher.card.input.geometry
    return torch.from_numpy(np.stack([rasterize(picture, geometry) for picture in pictures]))


def test_every_row_is_what_the_teacher_says(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 21, captions=50)
    teachers = {"a": toy_teacher("a"), "b": toy_teacher("b", kind=ToyImages, dim=5, seed=1, size=20)}
    store = extract(tmp_path / "store", samples, teachers, SMALL)
    rows = store.image_rows(image_keys(samples))
    assert sorted(set(rows.tolist())) == list(range(21))
    for name, teacher in teachers.items():
        said = teacher.image_embeddings(rasters_of(samples, range(50), teacher)).numpy()
        assert np.array_equal(store.read(name, "image", rows), said.astype(np.float16))
    said = teachers["a"].text_embeddings(samples.texts).numpy()
    assert np.array_equal(
        store.read("a", "text", store.text_rows(text_keys(samples))), said.astype(np.float16)
    )
    assert set(store.outputs("b")) == {"image"}
    assert store.card("a") == teachers["a"].card
    pairs = {(image, text) for image, text in zip(rows, store.text_rows(text_keys(samples)), strict=True)}
    assert {tuple(pair) for pair in store.tables.pairs.tolist()} == pairs
    assert len(store.tables.pairs) == len(pairs)


def test_statistics_are_those_of_the_stored_numbers(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 21)
    store = extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)
    for output, statistics in store.statistics("a").items():
        rows = store.manifest.rows("images" if output == "image" else "texts")
        values = store.read("a", output, np.arange(rows)).astype(np.float64)
        assert statistics.count == rows
        np.testing.assert_allclose(statistics.mean, values.mean(0), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(statistics.covariance, np.cov(values.T, bias=True), rtol=1e-9, atol=1e-12)
        norms = np.linalg.norm(values, axis=1)
        np.testing.assert_allclose(statistics.norm_quantiles, np.quantile(norms, QUANTILES))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_precisions(tmp_path: Path, precision: str) -> None:
    samples, teacher = toy_samples(tmp_path / "images", 9), toy_teacher()
    options = SMALL.model_copy(update={"precision": precision, "views": 2})
    store = extract(tmp_path / "store", samples, {"toy": teacher}, options)
    found = store.read("toy", "image", np.arange(9), views=np.zeros(9, np.int64))
    said = teacher.image_embeddings(rasters_of(samples, range(9), teacher)).numpy()
    bound = np.abs(said).max(1, keepdims=True) / 253 if precision == "int8" else 1e-6
    assert (np.abs(found - said) <= bound).all()
    assert found.dtype == np.float32


def test_views_are_those_of_the_policy(tmp_path: Path) -> None:
    policy = ViewPolicy(scale=(0.2, 0.5))
    options = SMALL.model_copy(update={"views": 3, "view_policy": policy})
    samples, teacher = toy_samples(tmp_path / "images", 10), toy_teacher()
    store = extract(tmp_path / "store", samples, {"toy": teacher}, options)
    every = store.read("toy", "image", np.arange(10))
    assert every.shape == (10, 3, 8)
    for index in range(3):
        said = teacher.image_embeddings(rasters_of(samples, range(10), teacher, index, policy)).numpy()
        assert np.array_equal(every[:, index], said.astype(np.float16))
        views = np.full(10, index)
        assert np.array_equal(store.read("toy", "image", np.arange(10), views=views), every[:, index])


def test_patch_tokens_have_their_grid(tmp_path: Path) -> None:
    samples, teacher = toy_samples(tmp_path / "images", 9), toy_teacher(kind=ToyTokens)
    store = extract(tmp_path / "store", samples, {"toy": teacher}, SMALL.model_copy(update={"tokens": True}))
    said = teacher.patch_tokens(rasters_of(samples, [8, 1], teacher)).tokens.numpy()
    assert store.outputs("toy")["patches"].grid == (2, 2)
    assert np.array_equal(store.read("toy", "patches", np.array([8, 1])), said.astype(np.float16))
    assert store.statistics("toy")["patches"].count == 36


def test_banks_are_texts_without_an_image(tmp_path: Path) -> None:
    samples, teacher = toy_samples(tmp_path / "images", 5), toy_teacher()
    banks = {"bank": ["a photo of a cat", samples.texts[0], "a photo of a cat", "a dog"]}
    store = extract(tmp_path / "store", samples, {"toy": teacher}, SMALL, banks=banks)
    assert summarize(store).roles == {"caption": 5, "bank": 2}
    row = store.text_rows([text_key("A  DOG")])
    said = teacher.text_embeddings(["a dog"]).numpy().astype(np.float16)
    assert np.array_equal(store.read("toy", "text", row), said)


def test_no_caption_and_no_path_is_in_the_store(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    samples = replace(
        samples, texts=tuple(f"secretword {row}" for row in range(5)), patients=("patientname",) * 5
    )
    extract(tmp_path / "store", samples, {"toy": toy_teacher()}, SMALL)
    whole = b"".join(tree(tmp_path / "store").values())
    for secret in (b"secretword", b"patientname", str(tmp_path).encode(), b".png"):
        assert secret not in whole


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 21)
    teachers = {"a": toy_teacher("a")}
    extract(tmp_path / "store", samples, teachers, SMALL)
    before = tree(tmp_path / "store")
    extract(tmp_path / "store", samples, teachers, SMALL.model_copy(update={"shard_rows": 4}))
    assert tree(tmp_path / "store") == before


def test_teachers_and_rows_are_added_without_touching_what_is_there(tmp_path: Path) -> None:
    first = toy_samples(tmp_path / "images", 11)
    a, b = toy_teacher("a"), toy_teacher("b", seed=1)
    extract(tmp_path / "store", first, {"a": a}, SMALL)
    before = tree(tmp_path / "store")
    extract(tmp_path / "store", first, {"b": b}, SMALL)
    after = tree(tmp_path / "store")
    assert [name for name in before if before[name] != after[name] and "manifest" not in name] == []
    assert {name: after[name] for name in after if "teachers/a" in name} == {
        name: before[name] for name in before if "teachers/a" in name
    }
    more = toy_samples(tmp_path / "more", 7, seed=1)
    both = replace_rows(first, more)
    progress = MessageLog()
    store = extract(tmp_path / "store", both, {"a": a, "b": b}, SMALL, progress=progress)
    assert any("7 images and 7 texts are new" in line for line in progress.lines)
    grown = tree(tmp_path / "store")
    kept = [
        name
        for name in after
        if name.endswith((".safetensors", ".parquet")) and not name.endswith(OF_ALL_ROWS)
    ]
    assert all(grown[name] == after[name] for name in kept)
    rows = store.image_rows(image_keys(both))
    assert rows.tolist() == list(range(18))
    said = b.image_embeddings(rasters_of(both, range(18), b)).numpy()
    assert np.array_equal(store.read("b", "image", rows), said.astype(np.float16))
    assert store.statistics("b")["image"].count == 18


def test_rows_can_be_added_from_another_table_alone(tmp_path: Path) -> None:
    first, more = toy_samples(tmp_path / "images", 11), toy_samples(tmp_path / "more", 7, seed=1)
    extract(tmp_path / "store", first, {"a": toy_teacher("a")}, SMALL)
    progress = MessageLog()
    store = extract(tmp_path / "store", more, {"a": toy_teacher("a")}, SMALL, progress=progress)
    assert store.image_rows(image_keys(more)).tolist() == list(range(11, 18))
    assert any("11 images and 11 texts of the store are not in this table" in line for line in progress.lines)
    with pytest.raises(StoreError, match=r"11 of them are not in it. The table has changed"):
        extract(tmp_path / "store", more, {"b": toy_teacher("b", seed=1)}, SMALL)


def replace_rows(first, more):
    return replace(
        first,
        refs=first.refs + more.refs,
        texts=first.texts + more.texts,
        modalities=first.modalities + more.modalities,
        ids=(),
        patients=(),
        rows=(),
        table_hash="",
    )


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)
    before = tree(tmp_path / "store")
    with pytest.raises(
        StoreError, match=r"teacher 'a' must be the one that made .*\n  weights_sha256: .* → "
    ):
        extract(tmp_path / "store", samples, {"a": toy_teacher("a", seed=9)}, SMALL)
    with pytest.raises(StoreError, match=r"image.shape: \[8\] → \[6\]"):
        extract(tmp_path / "store", samples, {"a": toy_teacher("a", dim=6)}, SMALL)
    with pytest.raises(StoreError, match=r"input.height: 16 → 20"):
        extract(tmp_path / "store", samples, {"a": toy_teacher("a", size=20)}, SMALL)
    with pytest.raises(StoreError, match=r"image.dtype: float16 → float32"):
        extract(
            tmp_path / "store",
            samples,
            {"a": toy_teacher("a")},
            SMALL.model_copy(update={"precision": "float32"}),
        )
    assert tree(tmp_path / "store") == before


def test_other_decoding_and_views_are_refused_by_name(tmp_path: Path) -> None:
    samples, teachers = toy_samples(tmp_path / "images", 5), {"a": toy_teacher("a")}
    extract(tmp_path / "store", samples, teachers, SMALL)
    windowed = replace(samples, options=DecodeOptions(window=(40.0, 400.0)))
    with pytest.raises(StoreError, match=r"decode.window: None in the store, \[40.0, 400.0\] requested"):
        extract(tmp_path / "store", windowed, teachers, SMALL)
    with pytest.raises(StoreError, match="views: 1 in the store, 2 requested"):
        extract(tmp_path / "store", samples, teachers, SMALL.model_copy(update={"views": 2}))


def test_another_policy_is_refused_by_name(tmp_path: Path) -> None:
    samples, teachers = toy_samples(tmp_path / "images", 5), {"a": toy_teacher("a")}
    options = SMALL.model_copy(update={"views": 2})
    extract(tmp_path / "store", samples, teachers, options)
    other = options.model_copy(update={"view_policy": ViewPolicy(gamma=0.5)})
    with pytest.raises(StoreError, match=r"view_policy.gamma: 0.2 in the store, 0.5 requested"):
        extract(tmp_path / "store", samples, teachers, other)


def test_words_about_a_teacher_may_change(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)
    store = extract(tmp_path / "store", samples, {"a": toy_teacher("a", modalities=("ct",))}, SMALL)
    assert store.available("a", np.arange(5)).tolist() == [False, True, False, False, True]


def test_availability_by_modality(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 6)
    samples = replace(samples, modalities=("", *samples.modalities[1:]), table_hash="")
    teachers = {"all": toy_teacher("all"), "some": toy_teacher("some", modalities=("mri",))}
    store = extract(tmp_path / "store", samples, teachers, SMALL)
    assert store.available("all", np.arange(6)).all()
    assert store.available("some", np.arange(6)).tolist() == [True, False, True, False, False, True]
    progress = MessageLog()
    idle = {"idle": toy_teacher("idle", modalities=("x-ray",))}
    extract(tmp_path / "store", toy_samples(tmp_path / "images", 6), idle, SMALL, progress=progress)
    assert any(
        "teacher idle covers none of the table's modalities (ct, mri, xray)" in line
        for line in progress.lines
    )


def test_large_numbers_need_float32(tmp_path: Path) -> None:
    samples, teacher = toy_samples(tmp_path / "images", 5), toy_teacher("a")
    teacher.modules[0].weight.data.mul_(1e6)
    with pytest.raises(StoreError, match=r"image output of teacher 'a' must fit float16"):
        extract(tmp_path / "store", samples, {"a": teacher}, SMALL)
    options = SMALL.model_copy(update={"precision": "float32"})
    assert (
        np.abs(
            extract(tmp_path / "other", samples, {"a": teacher}, options).read("a", "image", np.arange(5))
        ).max()
        > 1e5
    )


def test_no_extraction_during_a_repair(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    with Workers.join(tmp_path / "store") as workers:
        assert workers.admit(alone=True)
        with pytest.raises(StoreError, match="must not be under repair"):
            extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    before = tree(tmp_path / "images")
    with pytest.raises(StoreError, match=r"must be a feature store or an empty folder; it holds '0\.png'"):
        extract(tmp_path / "images", samples, {"a": toy_teacher("a")}, SMALL)
    assert tree(tmp_path / "images") == before


def test_a_disk_without_room_is_refused_before_any_image_is_read(tmp_path: Path, monkeypatch) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(StoreError, match="must have room for the features"):
        extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_batches_must_fill_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`shard_rows` must be a multiple of `batch_size`; got 4096 and 100"):
        ExtractOptions(batch_size=100)
    samples = toy_samples(tmp_path / "images", 5)
    extract(tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL)
    with pytest.raises(StoreError, match="`batch_size` must divide the 8 rows"):
        extract(
            tmp_path / "store", samples, {"a": toy_teacher("a")}, SMALL.model_copy(update={"batch_size": 3})
        )


@pytest.mark.parametrize("precision", ["float16", "float32", "int8"])
def test_the_estimate_is_close(tmp_path: Path, precision: str) -> None:
    samples = toy_samples(tmp_path / "images", 40)
    options = SMALL.model_copy(update={"views": 2, "precision": precision, "tokens": True})
    teachers = {"a": toy_teacher("a", dim=200), "b": toy_teacher("b", kind=ToyTokens, dim=300)}
    store = extract(tmp_path / "store", samples, teachers, options)
    assert "patches" in store.outputs("b")
    asked = estimate(40, 40, teachers.values(), options)
    assert asked == pytest.approx(summarize(store).bytes, rel=0.05)


def test_worker_processes_give_the_same_store(tmp_path: Path) -> None:
    samples, teachers = toy_samples(tmp_path / "images", 9), {"a": toy_teacher("a")}
    extract(tmp_path / "one", samples, teachers, SMALL)
    extract(tmp_path / "two", samples, teachers, SMALL.model_copy(update={"workers": 1}))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_reading_what_is_not_there_is_refused(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 5)
    store = extract(tmp_path / "store", samples, {"a": toy_teacher("a", kind=ToyImages)}, SMALL)
    with pytest.raises(StoreError, match="rows 0 to 4; got -1 to 2"):
        store.read("a", "image", np.array([2, -1]))
    with pytest.raises(StoreError, match="rows 0 to 4; got 5 to 5"):
        store.read("a", "image", np.array([5]))
    with pytest.raises(
        StoreError, match=r"`output` must be one that teacher 'a' has in .*: image; got 'text'"
    ):
        store.read("a", "text", np.array([0]))
    with pytest.raises(StoreError, match="which has: a; got 'b'"):
        store.card("b")
    with pytest.raises(StoreError, match="must be read with `read`"):
        store.read_ragged("a", "image", np.array([0]))
    assert store.read("a", "image", np.empty(0, np.int64)).shape == (0, 8)
    with pytest.raises(StoreError, match=r"must be a feature store; it has no manifest.json"):
        FeatureStore.open(tmp_path / "nothing")


def test_segments_must_follow(tmp_path: Path) -> None:
    piece = {"file": "x.parquet", "bytes": 1, "sha256": "0" * 64, "start": 3, "stop": 5}
    with pytest.raises(ValueError, match="must follow without gaps"):
        StoreManifest(
            settings={"decode": {}}, shard_rows=8, segments={"images": [piece], "texts": [], "pairs": []}
        )
    with pytest.raises(ValueError, match="file"):
        OutputManifest(shape=(1,), dtype="float16", shards=[{**piece, "file": "../x"}])
