"""What a recipe says of its bundle; importable without torch."""

from typing import Literal

from meddistill.strict import Strict

BundleFormat = Literal["open_clip", "onnx"]


class CardNotes(Strict):
    """What only the makers can tell, for the model card. Where nothing is said, the card says so."""

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
    """Whom to ask."""


class BundleConfig(Strict):
    """What the bundle holds. Without `onnx` it can be loaded by open_clip, not by the runtime."""

    formats: tuple[BundleFormat, ...] = ("open_clip", "onnx")
    """`onnx` is what the runtime needs; `open_clip` is for other libraries."""
    card: CardNotes = CardNotes()
    """What only the makers can tell, for the model card."""
