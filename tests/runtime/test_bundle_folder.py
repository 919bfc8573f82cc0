"""Opening and verifying a bundle."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import DIM, write_manifest, write_preprocessing

from meddistill.errors import BundleError
from meddistill.runtime import Bundle, Embedder, class_vectors


def test_whole_bundle_opens_and_verifies(bundle_folder: Path) -> None:
    bundle = Bundle.open(bundle_folder)
    bundle.verify()
    assert bundle.manifest.licence.name == "Apache-2.0"
    assert bundle.preprocessing.input.height == 8


def test_missing_folder_and_other_folders(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"manifest.json` must exist; got no such file. Name a bundle's folder"
    ):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text('{"format": "something"}')
    with pytest.raises(BundleError, match='must have `"format": "meddistill-bundle"`'):
        Bundle.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be readable JSON"),
        ("[1, 2", "must be readable JSON"),
        ("[" * 100_000, "must be readable JSON"),
        ("[]", 'must have `"format"'),
        ("\xff", "must be readable JSON"),
    ],
)
def test_damaged_manifest(bundle_folder: Path, text: str, message: str) -> None:
    (bundle_folder / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"version": 2}, "must have version 1; got 2. Update MedDistill"),
        ({"kind": "dense"}, "kind: Input should be 'dual_encoder'"),
        ({"logit_scale": 0}, "logit_scale: Input should be greater than 0"),
        ({"logit_scale": None}, "logit_scale"),
        ({"files": {}}, r"preprocessing.json is not in the manifest; onnx/image.onnx is not"),
        ({"context_length": 7}, "different context lengths"),
    ],
)
def test_manifests_that_break_the_format(
    bundle_folder: Path, changed: dict[str, object], message: str
) -> None:
    write_manifest(bundle_folder, **changed)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "onnx/../../x", "..\\escape"])
def test_file_names_that_leave_the_bundle(bundle_folder: Path, name: str) -> None:
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    (bundle_folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="a file name leaves the bundle"):
        Bundle.open(bundle_folder)


def test_a_bundle_that_was_exported_without_onnx(bundle_folder: Path) -> None:
    manifest = json.loads((bundle_folder / "manifest.json").read_text())
    for name in ("onnx/image.onnx", "onnx/text.onnx"):
        del manifest["files"][name]
        (bundle_folder / name).unlink()
    (bundle_folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"Export it again with `bundle: {formats: \[open_clip, onnx\]}`"):
        Bundle.open(bundle_folder)


def test_missing_and_truncated_files(bundle_folder: Path) -> None:
    (bundle_folder / "tokenizer.json").unlink()
    path = bundle_folder / "onnx" / "text.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"tokenizer.json is missing") as caught:
        Bundle.open(bundle_folder)
    assert "onnx/text.onnx has" in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605247071\n"


def test_what_lies_in_place_of_a_file_is_named(bundle_folder: Path) -> None:
    path = bundle_folder / "onnx" / "text.onnx"
    path.write_bytes(POINTER)
    with pytest.raises(BundleError, match=r"onnx/text\.onnx has .*Git LFS pointer.*`git lfs pull`"):
        Bundle.open(bundle_folder)
    path.unlink()
    path.symlink_to("../../blobs/gone")
    with pytest.raises(BundleError, match=r"text\.onnx is missing, a link to a file that is not there"):
        Bundle.open(bundle_folder)
    (bundle_folder / "manifest.json").write_bytes(POINTER)
    with pytest.raises(BundleError, match=r"manifest\.json` must be readable JSON; got a Git LFS pointer"):
        Bundle.open(bundle_folder)


@pytest.mark.parametrize("name", ["blobs", "r\udcf8ntgen"])
def test_a_bundle_of_links_works_in_a_folder_of_any_name(bundle_folder: Path, name: str) -> None:
    """As the hub's cache keeps it: every file a link to a blob without a suffix."""
    blobs = bundle_folder.parent / name
    blobs.mkdir()
    expected = class_vectors(Embedder(Bundle.open(bundle_folder)), ["blue", "green"])
    for number, path in enumerate(path for path in sorted(bundle_folder.rglob("*")) if path.is_file()):
        path.rename(blobs / f"{number:064d}")
        path.symlink_to(os.path.relpath(blobs / f"{number:064d}", path.parent))
    moved = bundle_folder.rename(bundle_folder.with_name(f"snapshot-{name}"))
    assert np.array_equal(class_vectors(Embedder(Bundle.open(moved)), ["blue", "green"]), expected)


def test_verify_names_what_changed(bundle_folder: Path) -> None:
    path = bundle_folder / "onnx" / "text.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    bundle = Bundle.open(bundle_folder)
    with pytest.raises(
        BundleError, match=r"got: onnx/text.onnx has another sha256\. Copy or export it again"
    ):
        bundle.verify()


@pytest.mark.parametrize(
    "changed",
    [{"text": {"normalizer": "other", "context_length": 6}}, {"decode": {"window": 3}}, {"input": None}],
)
def test_preprocessing_that_is_not_known_here(bundle_folder: Path, changed: dict[str, object]) -> None:
    write_preprocessing(bundle_folder, **changed)
    write_manifest(bundle_folder)
    with pytest.raises(BundleError, match=r"preprocessing.json` must follow the bundle format"):
        Bundle.open(bundle_folder)


def test_keys_of_a_later_writer_are_ignored(bundle_folder: Path) -> None:
    write_manifest(bundle_folder, something_new={"a": 1})
    Bundle.open(bundle_folder)


def _add_prompts(folder: Path, **changed: object) -> None:
    (folder / "prompts").mkdir(exist_ok=True)
    content = {"labels": ["red", "blue"], "templates": ["a {}"], "vectors": [[0, 1, 0], [1, 0, 0]]}
    (folder / "prompts" / "colours.json").write_text(json.dumps(content | changed))
    write_manifest(folder)


def test_stored_class_vectors_are_used_for_their_labels_and_templates_only(bundle_folder: Path) -> None:
    _add_prompts(bundle_folder)
    embedder = Embedder(Bundle.open(bundle_folder))
    stored = class_vectors(embedder, ["blue", "red"], templates=["a {}"])
    assert np.array_equal(stored, [[1, 0, 0], [0, 1, 0]])
    computed = class_vectors(embedder, ["blue", "red"], templates=["{}"])
    assert np.allclose(computed, [[0, 0, 1], [1, 0, 0]])
    assert class_vectors(embedder, ["blue", "green"], templates=["a {}"])[0, 2] > 0.9


@pytest.mark.parametrize("vectors", [[[0, 1, 0]], [[0, 1], [1, 0]], [[0, 1, 0], [1, 0]]])
def test_stored_class_vectors_of_wrong_shape(bundle_folder: Path, vectors: list[list[float]]) -> None:
    _add_prompts(bundle_folder, vectors=vectors)
    with pytest.raises(BundleError, match=f"must hold one vector of {DIM} a label"):
        Bundle.open(bundle_folder).class_vectors(["red", "blue"], ["a {}"])
