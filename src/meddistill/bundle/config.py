"""What a recipe says of its bundle; importable without torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from meddistill.strict import Strict

BundleFormat = Literal["open_clip", "onnx", "onnx_int8"]


class CardNotes(Strict):
    """What only the makers know, for the model card; keys left empty stand there as not stated."""

    intended_use: str = ""
    """What the model is for, and for whom."""
    populations: str = ""
    """Modalities, anatomy and populations of the training data."""
    deidentification: str = ""
    """How the training data were de-identified."""
    limitations: str = ""
    """What it should not be used for, and where it fails."""
    compute: str = ""
    """What training took."""
    contact: str = ""
    """How to reach the makers."""


class Int8Options(Strict):
    """What int8 towers must keep of the float towers; where they do not, the bundle goes without them.

    Both are compared on training images and their captions that the int8 towers were not calibrated on.
    """

    max_recall_loss: float = Field(default=0.02, ge=0, le=1)
    """How much lower recall at rank 1 among the samples may be, the mean of both ways."""
    min_shared_neighbours: float = Field(default=0.8, ge=0, le=1)
    """The least share of nearest neighbours (10, or a third of few samples) that stay, for images and for
    texts. The default was set after seeing the figures of one encoder, which met it by a narrow margin: it is
    no established bound, and nothing shows that it suits other encoders or uses. Look at the numbers in the
    model card, and set it by what your search can bear.
    """
    images: int = Field(default=256, ge=40, le=10_000)
    """Distinct images to take, evenly spread: a quarter to calibrate on, the others to compare on."""


class BundleConfig(Strict):
    """What the bundle holds. Without `onnx` it can be loaded by open_clip, not by the runtime."""

    formats: tuple[BundleFormat, ...] = ("open_clip", "onnx")
    """`onnx` is what the runtime needs; `open_clip` is for other libraries; `onnx_int8` adds both towers in
    8 bits, a quarter of the size, for the runtime's option `precision`.
    """
    int8: Int8Options = Int8Options()
    """What `onnx_int8` must keep of `onnx`."""
    card: CardNotes = CardNotes()
    """What only the makers know, for the model card."""

    @model_validator(mode="after")
    def _int8_is_compared(self) -> Self:
        if "onnx_int8" in self.formats and "onnx" not in self.formats:
            msg = (
                "`formats` must name `onnx` beside `onnx_int8`, which is made of it and compared; got "
                f"{', '.join(self.formats)}. Add `onnx`."
            )
            raise ValueError(msg)
        return self
