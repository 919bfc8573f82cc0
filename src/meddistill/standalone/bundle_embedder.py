"""A bundle under evaluation: its ONNX graphs through the runtime that ships with it, not through torch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

import numpy as np

from meddistill.arrays import Floats32
from meddistill.bundle_format import MANIFEST, OPEN_CLIP
from meddistill.data.samples import Samples
from meddistill.errors import CheckpointError
from meddistill.evaluation.models.protocols import UNTRAINED_TEXT, Advance, Role
from meddistill.runtime.bundle import Bundle
from meddistill.runtime.embed import Embedder
from meddistill.students.metadata import read_metadata


@final
class BundleEmbedder:
    """Images are decoded as the bundle says, whatever their table says: so whoever has the bundle sees them.

    Raises BundleError for what is no bundle or one that is not whole.
    """

    no_text_reason: Final = UNTRAINED_TEXT

    def __init__(self, folder: Path, *, name: str, role: Role, batch_size: int = 64) -> None:
        self.bundle = Bundle.open(folder)
        self.bundle.verify()
        self.has_text = self.bundle.manifest.text_trained
        self.name = name
        self.role: Role = role
        # The manifest holds the hash of everything else in the bundle.
        self.fingerprint = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
        self.logit_scale: float | None = self.bundle.manifest.logit_scale
        self.pretraining_data = _pretraining_data(folder)
        self._embedder = Embedder(self.bundle)
        self._batch_size = batch_size

    def embed_images(self, samples: Samples, *, advance: Advance) -> Floats32:
        """Unit vectors in the order of `samples`."""
        parts = []
        for part in self._embedder.stream_images(samples.refs, batch_size=self._batch_size):
            parts.append(part.vectors)
            advance(len(part.rows))
        return np.concatenate(parts)

    def embed_texts(self, texts: Sequence[str]) -> Floats32 | None:
        """Unit vectors of texts; None where nothing has trained the text tower."""
        if not self.has_text:
            return None
        return self._embedder.embed_texts(texts, batch_size=self._batch_size)


def _pretraining_data(folder: Path) -> tuple[str, ...]:
    """What the student's folder in the bundle says, where there is one."""
    try:
        return read_metadata(folder / OPEN_CLIP).provenance.pretraining_data
    except CheckpointError:
        return ()
