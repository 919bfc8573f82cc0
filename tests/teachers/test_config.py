"""What a recipe may say of a teacher, and that saying it loads no torch."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from meddistill.licences import KNOWN
from meddistill.teachers.config import TeacherConfig

PARSE = TypeAdapter(TeacherConfig)
SPEC = {"height": 8, "width": 8, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def test_the_recipe_of_the_design() -> None:
    config = PARSE.validate_python(
        {"kind": "open_clip", "model": "local-dir:teachers/radiology", "modalities": ["xray", "ct"]}
    )
    assert config.modalities == ("xray", "ct")
    assert config.terms is KNOWN["unknown"]
    assert config.precision == "float32"


def test_terms_of_ones_own() -> None:
    terms = {"name": "contract 12", "commercial": True, "derivatives": True, "distillation": "allowed"}
    config = PARSE.validate_python({"kind": "timm", "model": "local-dir:x", "licence": terms})
    assert config.terms.name == "contract 12"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "keras", "model": "x"}, "does not match any of the expected tags"),
        ({"kind": "open_clip", "model": "ViT-B-32"}, "`pretrained` must name the weights of 'ViT-B-32'"),
        (
            {"kind": "open_clip", "model": "local-dir:x", "pretrained": "openai"},
            "`pretrained` must be absent .*got 'openai'",
        ),
        ({"kind": "open_clip", "model": "local-dir:x", "licence": "MITT"}, "`licence` must be one of MIT"),
        ({"kind": "transformers", "model": "x", "poolling": "cls"}, "Extra inputs are not permitted"),
        ({"kind": "transformers", "model": "x", "precision": "float16"}, "'float32' or 'bfloat16'"),
        ({"kind": "timm", "model": "resnet50"}, "`checkpoint` must be given"),
        ({"kind": "timm", "model": "local-dir:x", "checkpoint": "y"}, "and only then"),
        ({"kind": "onnx"}, "`model` or `text_model` must be given"),
        ({"kind": "onnx", "model": "x.onnx"}, "`input` must be given for an image graph"),
        ({"kind": "onnx", "text_model": "x.onnx"}, "`tokenizer` .* and `context_length` must be given"),
        ({"kind": "onnx", "model": "x.onnx", "input": SPEC, "logit_scale": -1}, "greater than 0"),
        ({"kind": "python", "factory": "no function"}, "should match pattern"),
    ],
)
def test_mistakes(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PARSE.validate_python(content)


def test_torch_stays_away() -> None:
    code = (
        "import sys, meddistill.teachers.config, meddistill.teachers.card, meddistill.teachers.catalogue;"
        "meddistill.teachers.catalogue.catalogue();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'open_clip', 'timm')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
