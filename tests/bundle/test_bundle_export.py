"""A bundle as a whole: what it holds, what it must not hold, and what stops it."""

import hashlib
import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from bundle_data import SECRET_CAPTION, SECRET_PATIENT, card

from file_modes import of_others
from meddistill.bundle import export, parity
from meddistill.bundle.config import BundleConfig
from meddistill.bundle.export import Origin, export_bundle
from meddistill.data.samples import Samples
from meddistill.errors import BundleError, LicenceError, ParityError
from meddistill.licences import KNOWN
from meddistill.runtime.bundle import Bundle
from meddistill.runtime.embed import Embedder
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_layout(bundle: Path) -> None:
    assert set(files_of(bundle)) == {
        "manifest.json", "preprocessing.json", "tokenizer.json", "README.md",
        "open_clip/open_clip_config.json", "open_clip/open_clip_model.safetensors",
        "open_clip/meddistill.json",
        "onnx/image.onnx", "onnx/text.onnx", "onnx/image_int8.onnx", "onnx/text_int8.onnx",
        "prompts/findings.json", "prompts/whole.json",
        "evaluation/metrics.json", "evaluation/parity.json",
        "LICENSES/STUDENT.txt", "LICENSES/MIT.txt", "LICENSES/CC-BY-NC-4.0.txt", "LICENSES/CC0-1.0.txt",
    }  # fmt: skip
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_every_file_follows_the_umask(bundle: Path) -> None:
    assert of_others(bundle) == {}


def test_manifest_has_the_hash_of_every_other_file(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    expected = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files_of(bundle).items()
        if name != "manifest.json"
    }
    assert manifest["files"] == expected
    assert manifest["logit_scale"] == pytest.approx(1 / 0.07)
    assert (manifest["embed_dim"], manifest["context_length"], manifest["name"]) == (128, 77, "demo student")
    assert manifest["licence"]["commercial"] is False


def test_no_image_caption_patient_or_path_enters(bundle: Path, samples: Samples) -> None:
    folder = str(samples.refs[0].path.parent)
    secrets = [
        SECRET_CAPTION,
        SECRET_PATIENT,
        folder,
        "secret-",
        "site-packages",
        str(Path.home()),
        str(Path.cwd()),
    ]
    for name, content in files_of(bundle).items():
        for secret in secrets:
            assert secret.encode() not in content, name
            assert secret.lower().encode() not in content, name


def test_the_runtime_opens_and_verifies_it(
    bundle: Path, student: DualEncoder, samples: Samples, prompts: list[object]
) -> None:
    opened = Bundle.open(bundle)
    opened.verify()
    embedder = Embedder(opened, threads=1)
    stored = opened.class_vectors(["no finding", "pneumonia"], ["{}", "x of {}"])
    assert stored is not None
    texts = embedder.embed_texts(["no finding", "x of no finding"]).mean(axis=0)
    assert (texts @ stored[0]) / (texts @ texts) ** 0.5 == pytest.approx(1.0, abs=1e-5)
    assert embedder.embed_images(samples.refs).shape == (12, 128)


def test_stock_open_clip_loads_it(bundle: Path, student: DualEncoder) -> None:
    model = open_clip.create_model(f"local-dir:{bundle / 'open_clip'}").eval()
    student.eval()
    with torch.no_grad():
        ids = open_clip.get_tokenizer(f"local-dir:{bundle / 'open_clip'}")(["CT of the chest"])
        assert torch.equal(
            model.encode_text(ids), student.embed_tokens(student.tokenize(["CT of the chest"]))
        )


def test_metrics_hold_main_rows_only(bundle: Path) -> None:
    rows = json.loads((bundle / "evaluation/metrics.json").read_text())["results"]
    assert len(rows) == 6
    assert {row["main"] for row in rows} == {True}


def test_forbidden_licences_stop_everything(tmp_path: Path, student: DualEncoder, samples: Samples) -> None:
    origin = Origin(name="x", policy="permissive", cards=(card("skin", "CC-BY-NC-4.0"),))
    with pytest.raises(LicenceError, match="refuses to export"):
        export_bundle(student, tmp_path / "bundle", origin=origin, samples=samples)
    weights = Origin(name="x", policy="research", initial_weights=KNOWN["unknown"])
    with pytest.raises(LicenceError, match="initial weights"):
        export_bundle(student, tmp_path / "bundle", origin=weights, samples=samples)
    assert list(tmp_path.iterdir()) == []


def test_a_parity_failure_leaves_nothing_and_keeps_the_earlier_bundle(
    tmp_path: Path, bundle: Path, samples: Samples, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(model: DualEncoder, folder: Path, *, metadata: dict[str, str]) -> None:
        shutil.copytree(bundle / "onnx", folder / "onnx")
        # The student moves on after the export, as if the exporter had lost a layer.
        torch.nn.init.normal_(model.model.visual.trunk.fc.weight, generator=torch.Generator().manual_seed(1))

    student = build_student(StudentConfig(preset="tiny"), base=Path(), seed=0)
    monkeypatch.setattr(export, "export_towers", disturbed)
    earlier = tmp_path / "bundle"
    earlier.mkdir()
    (earlier / "manifest.json").write_text("{}")
    with pytest.raises(ParityError, match=r"exported image tower must agree .*Nothing was exported"):
        export_bundle(student, earlier, origin=origin, samples=samples)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    assert set(files_of(earlier)) == {"manifest.json"}


def test_not_a_number_is_no_parity() -> None:
    from numpy import array, nan

    with pytest.raises(ParityError, match="got nan"):
        parity._cosine("tower", array([[1.0, 0.0]]), array([[nan, 0.0]]))


def test_other_files_are_not_overwritten(
    tmp_path: Path, student: DualEncoder, samples: Samples, origin: Origin
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="must be empty or hold a bundle"):
        export_bundle(student, tmp_path, origin=origin, samples=samples)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_onnx_it_is_quick_and_keeps_the_student_as_it_is(
    tmp_path: Path, student: DualEncoder, samples: Samples, origin: Origin
) -> None:
    student.train()
    options = BundleConfig(formats=("open_clip",))
    for _ in range(2):
        export_bundle(student, tmp_path / "bundle", origin=origin, samples=samples, options=options)
    assert student.training
    assert not (tmp_path / "bundle/onnx").exists()
    assert "meddistill classify" not in (tmp_path / "bundle/README.md").read_text()
