"""What a recipe says of its student; importable without torch."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from meddistill.imaging.geometry import Interpolation, Resize
from meddistill.licences import LicenceTerms, resolve
from meddistill.strict import Strict

PresetName = Literal["tiny", "nano", "lite", "edge", "small", "base"]
DEFAULT_PRESET: PresetName = "edge"
NO_WEIGHTS = "none"


def _known(licence: str | LicenceTerms) -> str | LicenceTerms:
    resolve(licence)
    return licence


Licence = Annotated[str | LicenceTerms, AfterValidator(_known)]


class TextTower(Strict):
    """The text tower, where it is to differ from the preset's or the configuration's."""

    width: int | None = Field(default=None, gt=0)
    """Width of the text transformer."""
    heads: int | None = Field(default=None, gt=0)
    """Attention heads; they must divide the width."""
    layers: int | None = Field(default=None, gt=0)
    """Layers of the text transformer."""
    context_length: int | None = Field(default=None, ge=8, le=2048)
    """Tokens of a caption, the start and end tokens included; longer captions are cut."""
    vocabulary: int | None = Field(default=None, ge=300, le=100_000)
    """A vocabulary of at most so many byte pairs, trained on the training captions, in place of CLIP's 49,408
    tokens; 4,000 to 8,000 are enough for most. Words that only one patient's captions have are spelt out.
    Fewer captions give a smaller one. Not for Hugging Face text towers, which bring theirs.
    """
    hf: str | None = None
    """A folder (relative to the recipe) or hub id with configuration and tokenizer of a Hugging Face text
    model, which takes the place of the architecture's own text tower; the preset `base` needs one.
    """
    hf_weights: Literal["random", "pretrained"] = "random"
    """`pretrained` starts from that folder's safetensors too, under `hf_licence`."""
    hf_licence: Licence | None = None
    """Licence of the pretrained text weights, which the student inherits; `unknown` where it is not given."""


class StudentConfig(Strict):
    """The student: a preset, an open_clip configuration, or any timm image tower with a small text tower.

    At most one of `preset`, `open_clip` (a name that open_clip knows, or a JSON file) and `image_tower` (a
    timm name). With none of them the architecture is that of the folder in `init`, with the same small text
    tower beside an image tower alone, or the preset `edge`; one that is named must be the folder's.
    """

    preset: PresetName | None = None
    """An architecture by name; see the table of presets, which has the millions of parameters of image + text
    tower, in the last column with `text: {vocabulary: 4000}`.
    """
    open_clip: str | None = None
    """A configuration by the name that open_clip knows, or a JSON file."""
    image_tower: str | None = None
    """A timm name; the text tower is a small one of CLIP's kind."""
    image_size: int | None = Field(default=None, ge=16, le=4096)
    """Pixels, square; by default the architecture's own."""
    embed_dim: int | None = Field(default=None, ge=2, le=8192)
    """Length of the embeddings; by default the architecture's own."""
    resize: Resize | None = None
    """As in `input`; by default the architecture's own."""
    interpolation: Interpolation | None = None
    """As in `input`; by default the architecture's own."""
    text: TextTower = TextTower()
    """The text tower, where it is to differ."""
    init: str = NO_WEIGHTS
    """`none`, or a folder with safetensors to start from, as a library saved it: of open_clip, a student's
    among them; of timm, for the image tower without its classifier; of transformers, a CLIP, or CLIP's vision
    tower, a ViT, DINOv2 or ResNet for the image tower. Mean, std, interpolation and size are the folder's.
    """
    init_towers: Literal["both", "image"] = "both"
    """What is taken from `init`: all that it has, or the image tower alone, beside another text tower."""
    init_licence: Licence | None = None
    """Licence of the initial weights, which the student inherits; by default read from their folder (of a
    student or of timm), and `unknown` where it states none.
    """

    @model_validator(mode="after")
    def _one_architecture(self) -> Self:
        named = [name for name in ("preset", "open_clip", "image_tower") if getattr(self, name) is not None]
        if len(named) > 1:
            msg = (
                "`student` must name one of `preset`, `open_clip` and `image_tower`; "
                f"got {' and '.join(named)}. Keep one."
            )
            raise ValueError(msg)
        if self.text.hf_weights == "pretrained" and self.text.hf is None:
            msg = "`text.hf` must be a folder when `text.hf_weights` is pretrained; got nothing. Name it."
            raise ValueError(msg)
        if self.text.vocabulary is not None and self.text.hf is not None:
            msg = "`text.vocabulary` must be absent where `text.hf` brings a tokenizer; got both. Keep one."
            raise ValueError(msg)
        return self
