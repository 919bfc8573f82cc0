"""The index: exactness, the files, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import add_int8_towers, write_manifest

from meddistill.errors import BundleError, ConfigError
from meddistill.runtime import Bundle, Embedder, Index

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(300, 3)).astype(np.float32)
QUERIES = RNG.normal(size=(600, 3)).astype(np.float32)
NAMES = [f"scan{row}" for row in range(300)]


@pytest.fixture
def embedder(bundle_folder: Path) -> Embedder:
    return Embedder(Bundle.open(bundle_folder))


def test_neighbours_are_exact_and_survive_saving(embedder: Embedder, tmp_path: Path) -> None:
    Index.build(embedder, VECTORS, NAMES).save(tmp_path / "index")
    found = Index.load(tmp_path / "index", embedder).neighbours(embedder, QUERIES, k=5)
    for query, rows, cosines in zip(QUERIES, found.rows, found.cosines, strict=True):
        expected = (VECTORS @ query) / (np.linalg.norm(VECTORS, axis=1) * np.linalg.norm(query))
        assert np.allclose(cosines, np.sort(expected)[::-1][:5], atol=1e-5)
        assert np.allclose(expected[rows], cosines, atol=1e-5)


def test_ties_go_by_row_and_k_is_cut_to_the_size(embedder: Embedder) -> None:
    index = Index.build(embedder, np.tile(np.float32([[1, 0, 0]]), (6, 1)), list("abcdef"))
    found = index.neighbours(embedder, np.float32([[2, 0, 0]]), k=99)
    assert found.rows.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert np.allclose(found.cosines, 1)
    assert index.neighbours(embedder, np.zeros((0, 3), np.float32), k=2).rows.shape == (0, 2)


def test_senseless_requests(embedder: Embedder) -> None:
    with pytest.raises(ConfigError, match="must be one row a name"):
        Index.build(embedder, VECTORS, NAMES[:-1])
    with pytest.raises(ConfigError, match="must be finite and not zero"):
        Index.build(embedder, np.float32([[np.nan, 0, 0]]), ["a"])
    with pytest.raises(ConfigError, match="`k` must be at least 1; got 0"):
        Index.build(embedder, VECTORS, NAMES).neighbours(embedder, QUERIES, k=0)


def test_damaged_index_and_index_of_another_model(
    embedder: Embedder, bundle_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    with pytest.raises(BundleError, match=r"index\.json` must exist"):
        Index.load(folder, embedder)
    Index.build(embedder, VECTORS, NAMES).save(folder)
    whole = (folder / "vectors.npy").read_bytes()
    for damaged in (b"", whole[:-8], whole[:60]):
        (folder / "vectors.npy").write_bytes(damaged)
        with pytest.raises(BundleError, match=r"must (be a readable array|hold one row a name)"):
            Index.load(folder, embedder)
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    manifest["files"]["onnx/image.onnx"]["sha256"] = "0" * 64
    write_manifest(bundle_folder, files=manifest["files"])
    with pytest.raises(BundleError, match="must come from this bundle's float32 image tower"):
        Index.load(folder, Embedder(Bundle.open(bundle_folder)))


def test_an_index_is_of_one_precision(bundle_folder: Path, tmp_path: Path) -> None:
    add_int8_towers(bundle_folder)
    bundle = Bundle.open(bundle_folder)
    embedders = {precision: Embedder(bundle, precision=precision) for precision in ("float32", "int8")}
    for precision, embedder in embedders.items():
        Index.build(embedder, VECTORS, NAMES).save(tmp_path / precision)
        assert Index.load(tmp_path / precision, embedder).names == tuple(NAMES)
    for made, used in (("float32", "int8"), ("int8", "float32")):
        with pytest.raises(BundleError, match=f"must come from this bundle's {used} image tower"):
            Index.load(tmp_path / made, embedders[used])
        index = Index.load(tmp_path / made, embedders[made])
        with pytest.raises(BundleError, match=f"the index must come from this bundle's {used} image tower"):
            index.neighbours(embedders[used], QUERIES, k=3)


def test_pickles_are_not_loaded(embedder: Embedder, tmp_path: Path) -> None:
    Index.build(embedder, VECTORS[:1], ["a"]).save(tmp_path)
    np.save(tmp_path / "vectors.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BundleError, match=r"must (be a readable array|hold one row a name)"):
        Index.load(tmp_path, embedder)
