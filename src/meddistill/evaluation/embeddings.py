"""A model's embeddings by content: computed once, kept on disk, the same for every table and task.

`<folder>/<fingerprint>/images-*.safetensors` and `texts-*.safetensors` hold `keys` uint8 [u, 32] (sha256 of
the image's file and selectors, or of the normalised text) and `embeddings` float32 [u, d]. Parts are written
whole or not at all, so that a run that died goes on with the next part. A damaged part is computed again.
"""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from meddistill.data.keys import image_keys, text_key
from meddistill.data.samples import Samples
from meddistill.errors import NonFiniteError, UserError
from meddistill.evaluation.predict import Embedder, Floats, TokenEmbedder, Tokens
from meddistill.files import write_whole
from meddistill.progress import Progress

PART_IMAGES: Final = 2048
_PART_TEXTS: Final = 8192


class Embeddings:
    """One model's embeddings of the images and texts of a suite."""

    def __init__(self, model: Embedder, *, folder: Path, progress: Progress) -> None:
        self.model = model
        self._folder = folder / model.fingerprint[:32]
        self._progress = progress
        self._images = _Table(self._folder, "images")
        self._texts = _Table(self._folder, "texts")
        self._has_text: bool | None = None

    @property
    def has_text(self) -> bool:
        """Whether the model has a text tower."""
        if self._has_text is None:
            self._has_text = self.model.embed_texts(["image"]) is not None
        return self._has_text

    @property
    def image_dim(self) -> int | None:
        """Width of the image embeddings; None before the first."""
        return self._images.dim

    def images(self, samples: Samples, keys: Sequence[str] | None = None) -> Floats:
        """Embeddings [n, d] of samples; `keys` are their image keys where already known.

        Raises NonFiniteError with the rows of the table where the model gives no finite numbers.
        """
        keys = image_keys(samples) if keys is None else keys
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        missing = [key for key in dict.fromkeys(keys) if key not in self._images]
        if missing:
            label = f"{self.model.name}: images"
            total = len(set(keys))
            with self._progress.track(label, total, done=total - len(missing)) as advance:
                for part in _parts(missing, PART_IMAGES):
                    chosen = samples.take([first[key] for key in part])
                    found = self.model.embed_images(chosen, advance=advance)
                    names = [f"row {row}" for row in chosen.rows]
                    self._images.add(part, _checked(found, names, self.model.name))
        return self._images.rows(keys)

    def texts(self, texts: Sequence[str]) -> Floats:
        """Embeddings [m, d] of texts. The model must have a text tower (`has_text`)."""
        keys = [text_key(text) for text in texts]
        by_key = dict(zip(keys, texts, strict=True))
        missing = [key for key in by_key if key not in self._texts]
        for part in _parts(missing, _PART_TEXTS):
            found = self.model.embed_texts([by_key[key] for key in part])
            if found is None:
                msg = f"`texts` must go to a model with a text tower; {self.model.name} has none."
                raise UserError(msg)
            names = [f"text {number}" for number in range(1, len(part) + 1)]
            self._texts.add(part, _checked(found, names, self.model.name))
        return self._texts.rows(keys)

    def image_tokens(self, samples: Samples) -> Tokens | None:
        """Patch tokens of samples in their order; None where the model gives none."""
        if not isinstance(self.model, TokenEmbedder):
            return None
        with self._progress.track(f"{self.model.name}: patches", len(samples)) as advance:
            return self.model.image_tokens(samples, advance=advance)

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:
        """Token states of texts in their order; None where the model gives none."""
        return self.model.text_tokens(texts) if isinstance(self.model, TokenEmbedder) else None


class _Table:
    """Key → embedding, in memory and in the parts of one folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._place: dict[str, int] = {}
        self._blocks: list[Floats] = []
        for unfinished in folder.glob(f".{kind}-*"):
            unfinished.unlink()
        for path in sorted(folder.glob(f"{kind}-*.safetensors")):
            part = _read(path)
            if part is not None:
                self._enter([bytes(key).hex() for key in part[0]], part[1])

    def __contains__(self, key: str) -> bool:
        return key in self._place

    @property
    def dim(self) -> int | None:
        """Width of the embeddings."""
        return self._blocks[0].shape[1] if self._blocks else None

    def add(self, keys: Sequence[str], embeddings: Floats) -> None:
        """Enter embeddings and write them as a part."""
        block: Floats = np.ascontiguousarray(embeddings, dtype=np.float32)
        numbers = np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(len(keys), -1)
        path = self._folder / f"{self._kind}-{uuid.uuid4().hex}.safetensors"
        content = {"keys": numbers, "embeddings": block}
        write_whole(path, save(content, metadata={"sha256": _digest(numbers, block)}))
        self._enter(keys, block)

    def rows(self, keys: Sequence[str]) -> Floats:
        """The embeddings of `keys`, in their order."""
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        if not keys:
            return np.zeros((0, self.dim or 0), dtype=np.float32)
        return self._blocks[0][[self._place[key] for key in keys]]

    def _enter(self, keys: Sequence[str], embeddings: Floats) -> None:
        start = sum(len(block) for block in self._blocks)
        self._place.update({key: start + row for row, key in enumerate(keys)})
        self._blocks.append(embeddings)


def _read(path: Path) -> tuple[NDArray[np.uint8], Floats] | None:
    try:
        content = load_file(path)
        sha256 = _metadata(path).get("sha256")
    except (SafetensorError, ValueError, OSError):
        return None
    whole = sha256 is not None and _digest(content["keys"], content["embeddings"]) == sha256
    return (content["keys"], content["embeddings"]) if whole else None


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as handle:
        return dict(handle.metadata() or {})


def _digest(keys: NDArray[np.uint8], embeddings: Floats) -> str:
    return hashlib.sha256(keys.tobytes() + embeddings.tobytes()).hexdigest()


def _parts(keys: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield list(keys[start : start + size])


def _checked(embeddings: Floats, names: Sequence[str], model: str) -> Floats:
    bad = [name for name, row in zip(names, embeddings, strict=True) if not np.isfinite(row).all()]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        msg = f"Embeddings of {model} must be finite; they are not at {', '.join(bad[:5])}{more}."
        raise NonFiniteError(msg)
    return embeddings
