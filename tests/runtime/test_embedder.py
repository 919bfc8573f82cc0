"""Vectors of images and texts."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import CONTEXT, DIM, SPEC, word_vectors, write_manifest

from meddistill.errors import BundleError, ConfigError, ImageError
from meddistill.imaging import ImageRef, decode, rasterize
from meddistill.runtime import Bundle, Embedder


@pytest.fixture
def embedder(bundle_folder: Path) -> Embedder:
    return Embedder(Bundle.open(bundle_folder), threads=1)


@pytest.fixture
def refs(paint: Callable[..., Path]) -> list[ImageRef]:
    rng = np.random.default_rng(0)
    return [ImageRef(paint(f"image{row}", tuple(rng.integers(20, 230, 3)))) for row in range(23)]


def _expected(ref: ImageRef) -> np.ndarray:
    means = rasterize(decode(ref), SPEC.geometry).mean(axis=(0, 1)) / 255
    return means / np.linalg.norm(means)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_images_in_order_for_every_batch_size(
    embedder: Embedder, refs: list[ImageRef], batch_size: int
) -> None:
    vectors = embedder.embed_images(refs, batch_size=batch_size)
    assert vectors.dtype == np.float32
    assert vectors.shape == (23, DIM)
    assert np.allclose(vectors, [_expected(ref) for ref in refs], atol=1e-5)


def test_texts_are_normalized_padded_and_cut(embedder: Embedder) -> None:
    words = word_vectors()
    texts = ["red", "  RED &amp;\n blue ", "a " * 20 + "green"]
    expected = [words[2], words[2] + words[1] + words[4], words[5] * CONTEXT]
    vectors = embedder.embed_texts(texts, batch_size=2)
    assert np.allclose(vectors, [each / np.linalg.norm(each) for each in expected], atol=1e-6)
    assert embedder.tokenize(texts).tolist()[1] == [2, 1, 4, 0, 0, 0]


def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert embedder.embed_images([]).shape == (0, DIM)
    assert embedder.embed_texts([]).shape == (0, DIM)


def test_unreadable_image_raises_or_is_left_out(
    embedder: Embedder, refs: list[ImageRef], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"")
    mixed = [*refs[:2], ImageRef(tmp_path / "bad.png"), *refs[2:5], ImageRef(tmp_path / "missing.png")]
    with pytest.raises(ImageError, match=r"bad\.png` must hold an image"):
        embedder.embed_images(mixed, batch_size=2)
    told: list[tuple[int, str]] = []
    parts = list(
        embedder.stream_images(
            mixed, batch_size=2, on_mistake=lambda row, error: told.append((row, str(error)))
        )
    )
    assert [row for part in parts for row in part.rows] == [0, 1, 3, 4, 5]
    vectors = np.concatenate([part.vectors for part in parts])
    assert np.allclose(vectors, [_expected(ref) for ref in refs[:5]], atol=1e-5)
    assert [row for row, _ in told] == [2, 6]


def test_leaving_the_stream_early_decodes_no_more(
    embedder: Embedder, refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    from meddistill.runtime import pipeline

    original = pipeline.decode_beside
    monkeypatch.setattr(
        pipeline, "decode_beside", lambda ref, options: decoded.append(ref) or original(ref, options)
    )
    stream = embedder.stream_images(refs * 20, batch_size=4)
    next(stream)
    stream.close()
    assert len(decoded) <= 4 * 3 + 2


def test_empty_texts_and_senseless_options(embedder: Embedder, bundle_folder: Path) -> None:
    with pytest.raises(ConfigError, match="text 1 must not be empty"):
        embedder.embed_texts(["red", " \n "])
    with pytest.raises(ConfigError, match="`batch_size` must be at least 1; got 0"):
        embedder.embed_images([], batch_size=0)
    with pytest.raises(ConfigError, match="`threads` must be at least 1; got 0"):
        Embedder(Bundle.open(bundle_folder), threads=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [("onnx/image.onnx", b"no model"), ("onnx/text.onnx", b""), ("tokenizer.json", b"{}")],
)
def test_parts_that_are_not_what_they_should_be(
    bundle_folder: Path, refs: list[ImageRef], name: str, content: bytes
) -> None:
    (bundle_folder / name).write_bytes(content)
    write_manifest(bundle_folder)
    embedder = Embedder(Bundle.open(bundle_folder))
    call = (
        partial(embedder.embed_images, refs[:1])
        if "image" in name
        else partial(embedder.embed_texts, ["red"])
    )
    with pytest.raises(BundleError, match=f"{name}` must be .*xport the bundle again"):
        call()


def test_exchanged_towers_and_wrong_dims_are_named(bundle_folder: Path, refs: list[ImageRef]) -> None:
    write_manifest(bundle_folder, embed_dim=5)
    with pytest.raises(BundleError, match="must give vectors of 5"):
        Embedder(Bundle.open(bundle_folder)).embed_images(refs[:1])
    image, text = bundle_folder / "onnx" / "image.onnx", bundle_folder / "onnx" / "text.onnx"
    image.write_bytes(text.read_bytes())
    write_manifest(bundle_folder)
    with pytest.raises(BundleError, match=r"image.onnx` must take"):
        Embedder(Bundle.open(bundle_folder)).embed_images(refs[:1])


def test_non_finite_vectors_are_refused(embedder: Embedder, bundle_folder: Path) -> None:
    path = bundle_folder / "onnx" / "text.onnx"
    content = path.read_bytes()
    one = np.float32(1).tobytes()
    assert content.count(one) == 3
    path.write_bytes(content.replace(one, np.float32(np.nan).tobytes()))
    write_manifest(bundle_folder)
    with pytest.raises(BundleError, match="must give finite numbers"):
        Embedder(Bundle.open(bundle_folder)).embed_texts(["red"])
