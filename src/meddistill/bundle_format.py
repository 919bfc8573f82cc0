"""The files of a bundle and what its JSON records hold, for writer and reader alike. Loads no torch.

```
manifest.json        what the bundle is, and the sha256 of every other file; written last
preprocessing.json   from a file to the raster, from a text to its tokens
open_clip/           the student for stock open_clip
onnx/image.onnx      "pixels" float32 [batch, 3, h, w], normalised -> "image_embeds" [batch, d], unit length
onnx/text.onnx       "tokens" int64 [batch, context] -> "text_embeds" [batch, d], unit length
onnx/*_int8.onnx     the two towers in 8 bits, inputs and outputs as above; optional
tokenizer.json       takes texts that `imaging.normalize_text` cleaned; cuts and pads to the context length
prompts/*.json       class vectors made at export, optional
evaluation/          metrics.json, the main metrics of student and teachers; parity.json
README.md            the model card
LICENSES/            the terms of every component
```
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from meddistill.imaging import DecodeOptions, InputSpec
from meddistill.licences import LicenceTerms

FORMAT: Final = "meddistill-bundle"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
PREPROCESSING: Final = "preprocessing.json"
OPEN_CLIP: Final = "open_clip"
IMAGE_MODEL: Final = "onnx/image.onnx"
TEXT_MODEL: Final = "onnx/text.onnx"
IMAGE_MODEL_INT8: Final = "onnx/image_int8.onnx"
TEXT_MODEL_INT8: Final = "onnx/text_int8.onnx"
TOKENIZER: Final = "tokenizer.json"
PROMPTS: Final = "prompts"
METRICS: Final = "evaluation/metrics.json"
PARITY: Final = "evaluation/parity.json"
CARD: Final = "README.md"
LICENCES: Final = "LICENSES"

Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class TowerFiles:
    """The names of a bundle's two towers in one precision."""

    image: str
    text: str


TOWER_FILES: Final[Mapping[Precision, TowerFiles]] = {
    "float32": TowerFiles(IMAGE_MODEL, TEXT_MODEL),
    "int8": TowerFiles(IMAGE_MODEL_INT8, TEXT_MODEL_INT8),
}

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class Record(BaseModel):
    """What a bundle's or an index's JSON holds; it does not change after reading."""

    # Keys that a later writer adds are no mistake; `version` says when a reader must know more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(Record):
    """What a file of the bundle is to be: sha256 (hex) and size in bytes."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Int8Comparison(Record):
    """The int8 towers against the float towers, on images and captions of the training data.

    `shared_neighbours` are shares in [0, 1] of an input's nearest neighbours, by cosine, that both towers
    name, over `images` images and `texts` texts. Recalls are means over both directions of the share of
    queries whose right answer is first. None where nothing was measured. The files are in the bundle
    unless `left_out_because` says why not.
    """

    images: int = Field(ge=0)
    texts: int = Field(ge=0)
    image_shared_neighbours: float | None = None
    text_shared_neighbours: float | None = None
    recall_float: float | None = None
    recall_int8: float | None = None
    left_out_because: tuple[str, ...] = ()


class Manifest(Record):
    """`manifest.json`: what the bundle is and the hash of every other file in it.

    `logit_scale` multiplies cosines before the softmax (it is not a logarithm). Without `text_trained`
    nothing has trained the text tower: only image embeddings mean anything. `int8` is absent where no int8
    towers were asked for.
    """

    format: Literal["meddistill-bundle"]
    version: Literal[1]
    kind: Literal["dual_encoder"]
    name: str
    files: Mapping[str, FileEntry]
    logit_scale: PositiveFloat
    embed_dim: int = Field(gt=0)
    context_length: int = Field(gt=0)
    text_trained: bool = True
    int8: Int8Comparison | None = None
    licence: LicenceTerms
    created_with: str


class TextPreprocessing(Record):
    """What is done to a text before `tokenizer.json` sees it: `open_clip_lower` is `imaging.normalize_text`.

    `context_length` in tokens.
    """

    normalizer: Literal["open_clip_lower"]
    context_length: int = Field(gt=0)


class Preprocessing(Record):
    """`preprocessing.json`: from a file to the raster, and from a text to its tokens."""

    input: InputSpec
    decode: DecodeOptions
    text: TextPreprocessing


class Prompts(Record):
    """`prompts/NAME.json`: class vectors of unit length, one row a label, over the ensemble of templates.

    `labels` are the phrases that fill the templates, so that a reader who asks for the same labels and
    templates gets the same vectors; where a task gives whole prompts, they are the table's labels and
    `templates` is empty. `classes` are the table's labels, in the same order.
    """

    name: str = ""
    labels: tuple[str, ...]
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...] = ()
    vectors: tuple[tuple[FiniteFloat, ...], ...]
