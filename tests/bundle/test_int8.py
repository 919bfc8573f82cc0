"""Int8 towers: in the bundle where they rank as the float towers do, left out with numbers where not."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from bundle_data import SECRET_CAPTION, SECRET_PATIENT
from pydantic import ValidationError

from meddistill.bundle import export
from meddistill.bundle.config import BundleConfig, Int8Options
from meddistill.bundle.export import Origin, export_bundle
from meddistill.bundle.int8 import add_int8, recall, shared_neighbours
from meddistill.bundle_format import IMAGE_MODEL_INT8, TEXT_MODEL_INT8
from meddistill.data.samples import Samples
from meddistill.errors import BundleError
from meddistill.imaging import ImageRef
from meddistill.runtime import Bundle, Embedder
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder

Say = Callable[..., tuple[int, str, str]]
OPTIONS = {"float32": [], "int8": ["--precision", "int8"]}


def left_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "onnx").iterdir()}


def test_the_runtime_runs_them_and_they_are_near_the_float_towers(bundle: Path, many: Samples) -> None:
    opened = Bundle.open(bundle)
    opened.verify()
    sizes = {name: entry.bytes for name, entry in opened.manifest.files.items()}
    assert sizes[IMAGE_MODEL_INT8] < 0.5 * sizes["onnx/image.onnx"]
    assert sizes[TEXT_MODEL_INT8] < 0.4 * sizes["onnx/text.onnx"]
    one, other = Embedder(opened), Embedder(opened, precision="int8")
    for refs_or_texts in (one.embed_images(many.refs), other.embed_images(many.refs)):
        np.testing.assert_allclose(np.linalg.norm(refs_or_texts, axis=1), 1, atol=1e-3)
    images = (one.embed_images(many.refs) * other.embed_images(many.refs)).sum(axis=1)
    texts = (one.embed_texts(many.captions) * other.embed_texts(many.captions)).sum(axis=1)
    assert 0.9 < images.min() < 0.999999  # in eight bits, and no copy of the float tower
    assert 0.9 < texts.min() < 0.999999


def test_manifest_and_card_have_the_numbers(bundle: Path) -> None:
    found = Bundle.open(bundle).manifest.int8
    assert found is not None
    assert found.left_out_because == ()
    assert (found.images, found.texts) == (36, 35)  # two captions differ in case alone
    assert found.image_shared_neighbours is not None
    assert found.text_shared_neighbours is not None
    assert 0.5 <= found.image_shared_neighbours <= 1
    card = (bundle / "README.md").read_text()
    assert f"image {found.image_shared_neighbours:.3f}, text {found.text_shared_neighbours:.3f}" in card


def test_of_the_images_nothing_enters(bundle: Path, many: Samples) -> None:
    secrets = [SECRET_CAPTION, SECRET_PATIENT, str(many.refs[0].path.parent), "secret-", str(Path.home())]
    for name in (IMAGE_MODEL_INT8, TEXT_MODEL_INT8):
        content = (bundle / name).read_bytes()
        assert [secret for secret in secrets if secret.encode() in content] == []
        model = onnx.load(bundle / name)
        assert {each.key for each in model.metadata_props} >= {"licence", "preprocessing"}
    kinds = Counter(node.op_type for node in onnx.load(bundle / IMAGE_MODEL_INT8).graph.node)
    assert kinds["QuantizeLinear"] > 3


def test_what_ranks_otherwise_is_left_out_with_numbers(
    bundle: Path, student: DualEncoder, many: Samples, tmp_path: Path
) -> None:
    (tmp_path / "onnx").mkdir()
    for name in ("image", "text"):
        (tmp_path / f"onnx/{name}.onnx").write_bytes((bundle / f"onnx/{name}.onnx").read_bytes())
    options = Int8Options(min_shared_neighbours=1.0)
    found = add_int8(student, tmp_path, samples=many, options=options, text_trained=True)
    assert found.left_out_because
    assert f"image tower: {found.image_shared_neighbours:.3f} of the nearest neighbours" in str(found)
    assert left_of(tmp_path) == {"image.onnx", "text.onnx"}


def test_copies_of_a_file_are_one_image(student: DualEncoder, many: Samples, tmp_path: Path) -> None:
    copy = ImageRef(shutil.copy(many.refs[0].path, tmp_path / "copy.png"))
    forty = Samples(refs=(*many.refs[:39], copy), texts=many.captions[:40])
    found = add_int8(student, tmp_path, samples=forty, options=Int8Options(), text_trained=True)
    assert found.left_out_because == ("40 distinct images are needed to calibrate and compare; there are 39",)


def test_the_rest_is_exported_where_int8_is_not(
    tmp_path: Path, bundle: Path, samples: Samples, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_before(_: DualEncoder, folder: Path, *, metadata: dict[str, str]) -> None:
        assert metadata
        shutil.copytree(bundle / "onnx", folder / "onnx", ignore=shutil.ignore_patterns("*int8*"))

    monkeypatch.setattr(export, "export_towers", made_before)
    student = build_student(StudentConfig(preset="tiny"), base=Path(), seed=0)
    options = BundleConfig(formats=("onnx", "onnx_int8"))
    manifest = export_bundle(student, tmp_path / "b", origin=origin, samples=samples, options=options)
    assert manifest.int8 is not None
    assert manifest.int8.left_out_because == (
        "40 distinct images are needed to calibrate and compare; there are 12",
    )
    assert left_of(tmp_path / "b") == {"image.onnx", "text.onnx"}
    assert "Left out: 40 distinct images are needed" in (tmp_path / "b/README.md").read_text()
    with pytest.raises(BundleError, match=r"must hold int8 towers; got none, left out .*there are 12"):
        Embedder(Bundle.open(tmp_path / "b"), precision="int8")


def test_embed_takes_them(say: Say, bundle: Path, samples: Samples) -> None:
    command = ["embed", bundle, samples.refs[1].path, "--texts", "CT of the chest"]
    written = {
        precision: [json.loads(line)["vector"] for line in say(*command, *more)[1].splitlines()]
        for precision, more in OPTIONS.items()
    }
    embedder = Embedder(Bundle.open(bundle), precision="int8")
    image, text = embedder.embed_images(samples.refs[1:2]), embedder.embed_texts(["CT of the chest"])
    np.testing.assert_allclose(written["int8"], np.concatenate([image, text]), atol=1e-6)
    assert np.abs(np.subtract(written["int8"], written["float32"])).max(axis=1).min() > 1e-4


def test_classify_takes_them(say: Say, bundle: Path, samples: Samples) -> None:
    """The bundle holds class vectors for these labels and templates, which are the float tower's."""
    labels, templates = ["no finding", "pneumonia"], ["{}", "x of {}"]
    command = ["classify", bundle, samples.refs[1].path, "--labels", ", ".join(labels), "--format", "json"]
    command += [word for template in templates for word in ("--templates", template)]
    scores = {
        precision: [row["scores"]["pneumonia"] for row in json.loads(say(*command, *more)[1])]
        for precision, more in OPTIONS.items()
    }
    embedder = Embedder(Bundle.open(bundle), precision="int8")
    texts = [template.format(label) for label in labels for template in templates]
    classes = embedder.embed_texts(texts).reshape(2, 2, -1).mean(axis=1)
    classes /= np.linalg.norm(classes, axis=1, keepdims=True)
    logits = embedder.bundle.manifest.logit_scale * classes @ embedder.embed_images(samples.refs[1:2])[0]
    expected = 1 / (1 + np.exp(logits[0] - logits[1]))
    assert scores["int8"] == pytest.approx([expected], abs=1e-4)
    assert scores["float32"] != pytest.approx([expected], abs=1e-3)


def test_shared_neighbours_by_hand() -> None:
    angles = np.array([0.0, 0.1, 1.0, 1.1, 2.0, 2.1])  # k = 2
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert shared_neighbours(vectors, vectors) == 1.0
    assert shared_neighbours(vectors, vectors @ np.array([[0, 1], [-1, 0]])) == 1.0
    # Nearest two of each row: 12 02 13 24 35 34; with rows 0 and 2 exchanged: 13 02 01 04 35 34.
    assert shared_neighbours(vectors, vectors[[2, 1, 0, 3, 4, 5]]) == pytest.approx(4.5 / 6)
    assert shared_neighbours(vectors[:2], vectors[:2]) is None


def test_recall_by_hand() -> None:
    images, texts = np.eye(3), np.array([[1.0, 0, 0], [0, 0, 1.0]])
    right = np.array([[True, False], [False, True], [False, False]])
    # Text 0 finds image 0; text 1 finds image 2, not 1. Image 0 finds text 0; image 1 finds neither first.
    assert recall(images, texts, right) == pytest.approx((0.5 + 0.5) / 2)


def test_int8_alone_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"`formats` must name `onnx` beside `onnx_int8`"):
        BundleConfig(formats=("open_clip", "onnx_int8"))
