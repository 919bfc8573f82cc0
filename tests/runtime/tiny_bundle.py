"""A tiny bundle: towers of a few ONNX nodes and a word tokenizer; an image's vector is its mean colour."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from meddistill import licences
from meddistill.imaging import TEXT_NORMALIZER, DecodeOptions, InputSpec

CONTEXT, DIM, SIDE = 6, 3, 8
WORDS = {"[PAD]": 0, "[UNK]": 1, "red": 2, "green": 3, "blue": 4, "a": 5, "medical": 6, "image": 7}
SPEC = InputSpec(height=SIDE, width=SIDE, resize="squash", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))


def _save_onnx(path: Path, nodes: list, weights: dict[str, np.ndarray], ends: tuple) -> None:
    onnx = pytest.importorskip("onnx")
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "tower", [ends[0]], [ends[1]], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _image_tower(path: Path) -> None:
    """The mean of every channel, before normalisation, as a unit vector."""
    helper, kinds = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx").TensorProto
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Mul", ["means", "std"], ["scaled"]),
        helper.make_node("Add", ["scaled", "mean"], ["colour"]),
        helper.make_node("LpNormalization", ["colour"], ["image_embeds"], axis=1, p=2),
    ]
    weights = {
        "axes": np.array([2, 3], np.int64),
        "std": np.array(SPEC.std, np.float32),
        "mean": np.array(SPEC.mean, np.float32),
    }
    ends = (
        helper.make_tensor_value_info("pixels", kinds.FLOAT, ["batch", 3, SIDE, SIDE]),
        helper.make_tensor_value_info("image_embeds", kinds.FLOAT, ["batch", DIM]),
    )
    _save_onnx(path, nodes, weights, ends)


def word_vectors() -> np.ndarray:
    """One vector a word: colours are axes, padding is nothing, the rest is a little grey."""
    vectors = np.full((len(WORDS), DIM), 0.1, np.float32)
    vectors[0] = 0
    vectors[2:5] = np.eye(3)
    return vectors


def _text_tower(path: Path, vectors: np.ndarray) -> None:
    """The sum of the words' vectors as a unit vector."""
    helper, kinds = pytest.importorskip("onnx.helper"), pytest.importorskip("onnx").TensorProto
    nodes = [
        helper.make_node("Gather", ["words", "tokens"], ["found"], axis=0),
        helper.make_node("ReduceSum", ["found", "axes"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["text_embeds"], axis=1, p=2),
    ]
    ends = (
        helper.make_tensor_value_info("tokens", kinds.INT64, ["batch", CONTEXT]),
        helper.make_tensor_value_info("text_embeds", kinds.FLOAT, ["batch", DIM]),
    )
    _save_onnx(path, nodes, {"words": vectors, "axes": np.array([1], np.int64)}, ends)


def _tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT, pad_id=0, pad_token="[PAD]")
    tokenizer.save(str(path))


def write_manifest(folder: Path, **changed: object) -> None:
    """The manifest of what lies in `folder`."""
    files = {
        str(path.relative_to(folder).as_posix()): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    manifest = {
        "format": "meddistill-bundle",
        "version": 1,
        "kind": "dual_encoder",
        "name": "tiny",
        "files": files,
        "logit_scale": 20.0,
        "embed_dim": DIM,
        "context_length": CONTEXT,
        "licence": licences.KNOWN["Apache-2.0"].model_dump(mode="json"),
        "created_with": "0",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | changed))


def write_preprocessing(folder: Path, **changed: object) -> None:
    """The preprocessing contract."""
    content = {
        "input": SPEC.model_dump(mode="json"),
        "decode": DecodeOptions().model_dump(mode="json"),
        "text": {"normalizer": TEXT_NORMALIZER, "context_length": CONTEXT},
    }
    (folder / "preprocessing.json").write_text(json.dumps(content | changed))


def write_bundle(folder: Path) -> None:
    """All files of a bundle."""
    (folder / "onnx").mkdir(parents=True)
    _image_tower(folder / "onnx" / "image.onnx")
    _text_tower(folder / "onnx" / "text.onnx", word_vectors())
    _tokenizer(folder / "tokenizer.json")
    write_preprocessing(folder)
    write_manifest(folder)


def add_int8_towers(folder: Path) -> None:
    """Towers that cannot be taken for the float ones: to the text tower red is green and green red."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "onnx" / "image.onnx")
    model.doc_string = "in 8 bits"
    onnx.save(model, folder / "onnx" / "image_int8.onnx")
    _text_tower(folder / "onnx" / "text_int8.onnx", word_vectors()[[0, 1, 3, 2, *range(4, len(WORDS))]])
    write_manifest(folder)
