"""Bundles that were damaged or changed on their way, and images that a bundle is asked about."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_rows import BAD
from faulty_world import CommandResult, Say, World, good_rows

IMAGES = [fault for fault in BAD if fault.says.startswith("must")]


@pytest.fixture
def bundle(finished: World, tmp_path: Path) -> Path:
    shutil.copytree(finished.out / "bundle", tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def image(finished: World) -> Path:
    return finished.folder / finished.rows[0]["image"]


def _flip(name: str) -> Callable[[Path], None]:
    def spoil(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / name).write_bytes(content)

    return spoil


def _cut(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).write_bytes((bundle / name).read_bytes()[:100]) and None


def _drop(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def _preprocessing(bundle: Path) -> None:
    """Another normalisation in as many bytes: every score would be silently wrong."""
    path = bundle / "preprocessing.json"
    content = path.read_text()
    digit = content.index("0.", content.index('"mean"')) + 2
    path.write_text(content[:digit] + str((int(content[digit]) + 3) % 10) + content[digit + 1 :])


def _entered(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Change a JSON file and enter its new size and hash in the manifest."""

    def spoil(bundle: Path) -> None:
        content = json.loads((bundle / name).read_text())
        change(content)
        raw = json.dumps(content).encode()
        (bundle / name).write_bytes(raw)
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_flip("onnx/image.onnx"), "onnx/image.onnx has another sha256. Copy or export it again"),
        (_flip("onnx/text.onnx"), "onnx/text.onnx has another sha256"),
        (_flip("tokenizer.json"), "tokenizer.json has another sha256"),
        (_flip("preprocessing.json"), "preprocessing.json has another sha256"),
        (_preprocessing, "preprocessing.json has another sha256"),
        (_cut("tokenizer.json"), "tokenizer.json has 100 bytes instead of"),
        (_cut("onnx/image.onnx"), "onnx/image.onnx has 100 bytes instead of"),
        (_cut("manifest.json"), "manifest.json` must be readable JSON"),
        (_drop("manifest.json"), "manifest.json` must exist"),
        (_drop("tokenizer.json"), "tokenizer.json is missing"),
        (_drop("onnx/text.onnx"), "onnx/text.onnx is missing"),
        (
            _entered("preprocessing.json", lambda content: content["input"].update(height="tall")),
            "preprocessing.json` must follow the bundle format; got input.height",
        ),
        (
            _entered("preprocessing.json", lambda content: content.update(input=[1, 2])),
            "preprocessing.json` must follow the bundle format; got input",
        ),
        (
            _entered("tokenizer.json", lambda content: content.pop("model")),
            "tokenizer.json` must be readable by this version of tokenizers",
        ),
    ],
)
def test_changed_bundles_are_refused(
    spoil: Callable[[Path], None], message: str, bundle: Path, image: Path, say: Say
) -> None:
    before = say("classify", bundle, image, "--labels", "red, mauve").went_well()
    assert "mauve" in before.out
    spoil(bundle)
    for command in (
        ("classify", bundle, image, "--labels", "red, mauve"),
        ("embed", bundle, image, "--texts", "red"),
    ):
        said = say(*command)
        said.refused(message)
        assert said.out == ""


def test_class_vectors_that_were_changed_are_refused(bundle: Path, image: Path, say: Say) -> None:
    command = ("classify", bundle, image, "--labels", "red, blue", "--templates", "{}")
    say(*command).went_well()
    _flip("prompts/colour.json")(bundle)
    say(*command).refused("prompts/colour.json has another sha256")


def test_a_file_that_is_no_bundle(finished: World, image: Path, tmp_path: Path, say: Say) -> None:
    for folder in (tmp_path, tmp_path / "gone", finished.out / "student", image):
        said = say("classify", folder, image, "--labels", "red, blue")
        assert f"`{folder}" in said.refused()


def test_bad_images_are_refused_or_left_out(finished: World, tmp_path: Path, say: Say) -> None:
    rows = good_rows(tmp_path)[: len(IMAGES) + 2]
    good = [tmp_path / row["image"] for row in rows[-2:]]
    for fault, row in zip(IMAGES, rows[:-2], strict=True):
        fault.spoil(tmp_path, row)
    bad = [tmp_path / row["image"] for row in rows[:-2]]
    bundle = finished.out / "bundle"

    def classify(*images: Path, on_error: str = "raise") -> CommandResult:
        labels = ("--labels", "red, green, blue", "--format", "json", "--on-error", on_error)
        return say("classify", bundle, *images, *labels)

    for path, fault in zip(bad, IMAGES, strict=True):
        said = classify(path, *good)
        assert f"`{path}` {fault.says}" in said.refused()
        assert said.out == ""
    said = classify(*bad, *good, on_error="skip").went_well()
    assert len(said.err.splitlines()) == said.err.count("Skipped: ") == len(bad)
    alone = json.loads(classify(*good).went_well().out)
    assert json.loads(said.out) == alone
    classify(*bad, on_error="skip").refused(f"None of {len(bad)} images could be read")

    vectors = tmp_path / "vectors.npy"
    say("embed", bundle, *bad, *good, "--output", vectors).refused(f"`{bad[0]}`")
    assert not vectors.exists()
    say("embed", bundle, *bad, *good, "--output", vectors, "--on-error", "skip").went_well()
    assert np.load(vectors).shape == (2, 16)
    names = json.loads(vectors.with_suffix(".json").read_text())
    assert names == [{"image": str(path)} for path in good]
