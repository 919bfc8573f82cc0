"""One of several extractions into one store; run by test_several_extractions.

The teacher answers when there is a file `gate`.
"""

import time
from pathlib import Path

from torch import Tensor

from meddistill.features.extract import extract
from toy_features import SMALL, ToyClip, ToyImages, toy_samples, toy_teacher

IMAGES, CAPTIONS = 45, 60


class Gated(ToyClip):
    """A teacher that waits until a file is there."""

    gate: Path | None = None

    def embed_images(self, pixels: Tensor) -> Tensor:
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.01)
        return super().embed_images(pixels)


def main(folder: Path, store: Path, gate: Path) -> None:
    """Extract with all others that were started so."""
    Gated.gate = gate
    teachers = {"a": toy_teacher("a", kind=Gated), "b": toy_teacher("b", kind=ToyImages, seed=1)}
    extract(store, toy_samples(folder, IMAGES, captions=CAPTIONS, there=True), teachers, SMALL)
