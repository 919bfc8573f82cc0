"""How a recipe names a teacher: one model a library, chosen by `kind`. Loads no torch.

Paths in `model` and its neighbours are relative to the recipe's folder. Model sources, in this order: a
path that exists, then a hub id (cached, then downloaded where there is a network).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from meddistill.core_yaml import bare_word_in
from meddistill.data.datasets import DatasetName
from meddistill.errors import LicenceError
from meddistill.imaging.geometry import InputSpec
from meddistill.licences import LicenceTerms, resolve
from meddistill.signals import Tower
from meddistill.strict import StrictSettings

Precision = Literal["float32", "bfloat16"]
Pooling = Literal["cls", "mean", "pooler"]


class _Teacher(StrictSettings):
    """What every kind of teacher has."""

    licence: str | LicenceTerms | None = None
    """A known name, or terms; without it the licence is unknown, and the policies `permissive` and `research`
    refuse the teacher.
    """
    modalities: tuple[str, ...] | None = None
    """Values of the table's modality column that the teacher is used for; null for all."""
    revision: str | None = None
    """Commit or tag of a hub id."""
    pretraining_data: tuple[DatasetName, ...] = ()
    """Names of the data sets that it was trained on, for the card. Scores on tasks that name one of them as
    their `dataset` are marked in the report, the student's too. Case, hyphens and spaces do not matter.
    """
    input: InputSpec | None = None
    """Replaces the preprocessing found beside the weights."""
    precision: Precision = "float32"
    """Of the forward pass; outputs are float32 always."""

    @field_validator("licence")
    @classmethod
    def _known(cls, value: str | LicenceTerms | None) -> str | LicenceTerms | None:
        try:
            resolve(value)
        except LicenceError as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def terms(self) -> LicenceTerms:
        """The licence as terms."""
        return resolve(self.licence)


class OpenClipTeacher(_Teacher):
    """A CLIP of open_clip."""

    kind: Literal["open_clip"]
    """A CLIP of open_clip."""
    model: str
    """`local-dir:FOLDER`, `hf-hub:ID`, or the name of an architecture with `pretrained`."""
    pretrained: str | None = None
    """A weights file or one of open_clip's tags, for architecture names only."""
    text_config: str | None = None
    """Folder with the Hugging Face `config.json` of the text tower, where that is named by a hub id and must
    load offline; `text_config/` or `config.json` in the model's own folder are found by themselves.
    """

    @model_validator(mode="after")
    def _weights(self) -> "OpenClipTeacher":
        named = self.model.startswith(("local-dir:", "hf-hub:"))
        if named and self.pretrained is not None:
            msg = f"`pretrained` must be absent for a model with its own weights; got {self.pretrained!r}."
            raise ValueError(msg)
        if not named and self.pretrained is None:
            msg = (
                f"`pretrained` must name the weights of {self.model!r}: a file or an open_clip tag. "
                "For a folder write `model: local-dir:PATH`, for a hub model `model: hf-hub:ID`."
            )
            raise ValueError(msg)
        return self


class TransformersTeacher(_Teacher):
    """A model of transformers: CLIP, SigLIP, dual encoders, BERT-like, DINOv2, ViT, SAM."""

    kind: Literal["transformers"]
    """A model of transformers: CLIP, SigLIP, dual encoders, BERT-like, DINOv2, ViT, SAM."""
    model: str
    """A folder or a hub id."""
    tower: Tower | None = None
    """Use one tower of a dual encoder only."""
    pooling: Pooling | None = None
    """Of single towers: `cls` the first token of the last hidden state, `mean` over the unmasked tokens (over
    the patches, for images), `pooler` the model's own; by default `cls`, and for models without a first token
    `mean`.
    """
    context_length: int | None = Field(default=None, gt=2)
    """Tokens, special ones included; by default the model's own."""


class TimmTeacher(_Teacher):
    """An image model of timm."""

    kind: Literal["timm"]
    """An image model of timm; the embedding is its pooled feature before the classifier."""
    model: str
    """`local-dir:FOLDER`, `hf-hub:ID`, or the name of an architecture with `checkpoint`."""
    checkpoint: str | None = None
    """A weights file, for architecture names only."""

    @model_validator(mode="after")
    def _weights(self) -> "TimmTeacher":
        named = self.model.startswith(("local-dir:", "hf-hub:"))
        if named == (self.checkpoint is not None):
            msg = (
                f"`checkpoint` must be given for an architecture of timm, and only then; got model "
                f"{self.model!r} with checkpoint {self.checkpoint!r}."
            )
            raise ValueError(msg)
        return self


class OnnxTeacher(_Teacher):
    """ONNX graphs: one for images, one for texts, or either alone."""

    kind: Literal["onnx"]
    """ONNX graphs: one for images, one for texts, or either alone."""
    model: str | None = None
    """Graph from normalised float32 pixels [b, 3, h, w] to an embedding [b, d]; `input` is then required."""
    image_input: str | None = None
    """Name of the graph's input, where it has several."""
    image_output: str | None = None
    """Name of the output with the embedding, where there are several."""
    patch_output: str | None = None
    """Name of an output with patches, [b, n, d] (a square grid) or [b, d, h, w]."""
    text_model: str | None = None
    """Graph from token ids [b, context_length] to an embedding [b, d]."""
    text_input: str | None = None
    """As `image_input`."""
    text_output: str | None = None
    """As `image_output`."""
    tokenizer: str | None = None
    """A `tokenizer.json`, required with `text_model`."""
    context_length: int | None = Field(default=None, gt=2)
    """Tokens of a text, required with `text_model`."""
    logit_scale: float | None = Field(default=None, gt=0)
    """The factor before the cosines, exponentiated."""

    @model_validator(mode="after")
    def _complete(self) -> "OnnxTeacher":
        if self.model is None and self.text_model is None:
            msg = "`model` or `text_model` must be given; got neither. Name an .onnx file."
            raise ValueError(msg)
        if self.model is not None and self.input is None:
            msg = "`input` must be given for an image graph: a graph does not state what pixels it takes."
            raise ValueError(msg)
        if self.text_model is not None and (self.tokenizer is None or self.context_length is None):
            msg = "`tokenizer` (a tokenizer.json) and `context_length` must be given for `text_model`."
            raise ValueError(msg)
        return self


class PythonTeacher(_Teacher):
    """The user's own: `factory` is `module:function`; the module may stand beside the recipe.

    `function(**options)` returns an object that satisfies one or more protocols of `teachers/protocols.py`.
    `input` is required for objects that see images, here or as an attribute `input` of the object. An
    attribute `logit_scale` (a float, exponentiated) and one `context_length` are read where present.

    Loading runs the module's code.
    """

    kind: Literal["python"]
    """The user's own model. Loading runs the module's code."""
    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`module:function`; the module may stand beside the recipe. See `teachers/protocols.py` for what it
    returns.
    """
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Keyword arguments of the function."""

    @field_validator("options", mode="before")
    @classmethod
    def _no_bare_word(cls, value: object) -> object:
        place = bare_word_in(value)
        if place is not None:
            msg = (
                f"`options.{place}` must be true or false, or a text in quotation marks; got a bare yes, no, "
                "on or off. Write which of them is meant."
            )
            raise ValueError(msg)
        return value


class PmcClipTeacher(_Teacher):
    """PMC-CLIP in its authors' weight files."""

    kind: Literal["pmc_clip"]
    """PMC-CLIP in its authors' weight files."""
    model: str
    """A folder with `checkpoint.pt`, or with the three files extracted from it."""
    text: str | None = None
    """Folder or hub id with `config.json` and tokenizer of PubMedBERT; by default `text/` of the model's."""
    context_length: int = Field(default=77, gt=2, le=512)
    """Tokens, special ones included."""
    attention_heads: int = Field(default=32, gt=0)
    """Of the image tower's attention pooling: 32 as it was trained; the authors' quick start has 8."""


class MedClipTeacher(_Teacher):
    """MedCLIP with Swin-Tiny, in its authors' weight file."""

    kind: Literal["medclip"]
    """MedCLIP with Swin-Tiny, in its authors' weight file."""
    model: str
    """A folder with `pytorch_model.bin`; `vision/config.json` in it only where it is another Swin."""
    text: str | None = None
    """Folder or hub id with `config.json` and tokenizer of Bio_ClinicalBERT; by default `text/` of the
    model's.
    """
    context_length: int = Field(default=77, gt=2, le=512)
    """Tokens, special ones included."""


class StoredTeacher(_Teacher):
    """A teacher of which there is a feature store with its outputs alone."""

    kind: Literal["stored"]
    """A teacher of which there is a feature store with its outputs alone; it is not evaluated."""
    store: str
    """The store's folder, which must hold the teacher under its id in the recipe."""


class RecipeTeacher(StrictSettings):
    """A teacher that the run trains first, by a recipe of its own.

    Everything else about it follows from that recipe and its student: weights, preprocessing, licence,
    pretraining data.
    """

    kind: Literal["recipe"]
    """A teacher that the run trains first, by a recipe of its own, up to its student, in the run folder's
    `teachers/<id>/`.
    """
    recipe: str
    """The recipe's file, relative to this one, whose own paths start at its own folder; or the name of one
    that comes along (`ammkd_teacher`), whose paths start where this one's do.
    """
    set: Mapping[str, Any] = {}
    """Dotted keys of that recipe → values in place of its own, as in `smoke`. With `--smoke` its own `smoke`
    comes after them.
    """
    modalities: tuple[str, ...] | None = None
    """Values of the table's modality column that the teacher is used for; null for all."""
    precision: Precision = "float32"
    """Of the forward pass; outputs are float32 always."""


# Those that can be run; of the others there are only stored outputs.
RunnableTeacher = (
    OpenClipTeacher
    | TransformersTeacher
    | TimmTeacher
    | OnnxTeacher
    | PmcClipTeacher
    | MedClipTeacher
    | PythonTeacher
)
TeacherConfig = Annotated[RunnableTeacher | StoredTeacher, Field(discriminator="kind")]
# As they stand in a recipe: those above, and those that it trains first.
TeacherEntry = Annotated[RunnableTeacher | StoredTeacher | RecipeTeacher, Field(discriminator="kind")]
