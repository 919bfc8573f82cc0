"""The JSON files of a bundle as they are written.

```
manifest.json        what the bundle is, and the sha256 of every other file; written last
preprocessing.json   from a file to the raster, from a text to its tokens
open_clip/           the student for stock open_clip
onnx/image.onnx      "pixels" float32 [batch, 3, h, w], normalised -> "image_embeds" [batch, d], unit length
onnx/text.onnx       "tokens" int64 [batch, context] -> "text_embeds" [batch, d], unit length
tokenizer.json       takes texts that `imaging.normalize_text` cleaned; cuts and pads to the context length
prompts/*.json       class vectors
evaluation/          metrics.json, the main metrics of student and teachers; parity.json
README.md            the model card
LICENSES/            the terms of every component
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ValidationError

from meddistill.imaging import DecodeOptions, InputSpec
from meddistill.licences import LicenceTerms
from meddistill.strict import Strict
from meddistill.students.folder import file_record
from meddistill.students.metadata import FileRecord

MANIFEST: Final = "manifest.json"
PREPROCESSING: Final = "preprocessing.json"
OPEN_CLIP: Final = "open_clip"
IMAGE_MODEL: Final = "onnx/image.onnx"
TEXT_MODEL: Final = "onnx/text.onnx"
TOKENIZER: Final = "tokenizer.json"
PROMPTS: Final = "prompts"
METRICS: Final = "evaluation/metrics.json"
PARITY: Final = "evaluation/parity.json"
CARD: Final = "README.md"
LICENCES: Final = "LICENSES"


class TextPreprocessing(Strict):
    """`open_clip_lower` is `imaging.normalize_text`; `context_length` in tokens."""

    normalizer: Literal["open_clip_lower"] = "open_clip_lower"
    context_length: int


class Preprocessing(Strict):
    """`preprocessing.json`."""

    input: InputSpec
    decode: DecodeOptions
    text: TextPreprocessing


class BundleManifest(Strict):
    """`manifest.json`. `logit_scale` multiplies cosines; it is no logarithm.

    Without `text_trained` nothing has trained the text tower, and readers must not use it.
    """

    format: Literal["meddistill-bundle"] = "meddistill-bundle"
    version: Literal[1] = 1
    kind: Literal["dual_encoder"] = "dual_encoder"
    name: str
    files: Mapping[str, FileRecord]
    logit_scale: float
    embed_dim: int
    context_length: int
    text_trained: bool = True
    licence: LicenceTerms
    created_with: str


def write_json(record: BaseModel, path: Path) -> None:
    """Write a record as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether a folder is a bundle whose files are those that its manifest names, byte for byte."""
    try:
        manifest = BundleManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return False
    return records_of(folder) == dict(manifest.files)


def records_of(folder: Path) -> dict[str, FileRecord]:
    """Hash and size of every file of the folder but its manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): file_record(path) for path in files}
