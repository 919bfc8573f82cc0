"""A model's embeddings and tokens by content: computed once, kept in feature stores, the same for every
table and task.

`<folder>/<fingerprint>/images`, `texts`, `patches`, `words` are stores of one output each, in float32; tokens
in float16, and only where a task asks for them. Shards are written whole or not at all, so that a run that
died goes on with the next, and several processes share them. A damaged shard is computed again.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats32
from meddistill.data.keys import image_keys, text_key
from meddistill.data.samples import Samples
from meddistill.errors import NonFiniteError, UserError
from meddistill.evaluation.models.cached_output import CachedOutput, ComputedRows
from meddistill.evaluation.models.protocols import NO_TEXT, Advance, Embedder, TokenEmbedder, Tokens
from meddistill.features.config import StoredPrecision
from meddistill.licences import resolve
from meddistill.progress import Progress
from meddistill.signals import Signal
from meddistill.teachers.card import TeacherCard

SHARD_ROWS: Final = 4096
TOKEN_ROWS: Final = 256


class _NoTokens(Exception):
    """The model has none to give."""


class Embeddings:
    """One model's embeddings of the images and texts of a suite; `progress` is for work with them."""

    def __init__(self, model: Embedder, *, folder: Path, progress: Progress) -> None:
        self.model = model
        self._folder = folder / model.fingerprint[:32]
        self.progress = progress
        self._images = self._rows("images", "image", SHARD_ROWS)
        self._texts = self._rows("texts", "text", SHARD_ROWS)
        self._patches = self._rows("patches", "patches", TOKEN_ROWS)
        self._words = self._rows("words", "text_tokens", TOKEN_ROWS)

    @cached_property
    def has_text(self) -> bool:
        """Whether the model has a text tower; a model that does not say so is asked for one text."""
        said = getattr(self.model, "has_text", None)
        return self.model.embed_texts(["image"]) is not None if said is None else bool(said)

    @property
    def no_text_reason(self) -> str:
        """What the model lacks for tasks that need text; empty for one that has it."""
        return "" if self.has_text else getattr(self.model, "no_text_reason", NO_TEXT)

    @property
    def image_dim(self) -> int | None:
        """Width of the image embeddings; None before the first."""
        layout = self._images.layout
        return None if layout is None else layout.shape[-1]

    def images(self, samples: Samples, keys: Sequence[str] | None = None) -> Floats32:
        """Embeddings [n, d] of samples; `keys` are their image keys where already known.

        Raises NonFiniteError with the rows of the table where the model gives no finite numbers.
        """
        keys = image_keys(samples) if keys is None else keys
        with self._bar("images", self._images, keys) as advance:

            def ask(positions: Sequence[int]) -> ComputedRows:
                chosen = samples.take(list(positions))
                embeddings = self.model.embed_images(chosen, advance=advance)
                return self._answer(embeddings, [f"row {row}" for row in chosen.rows])

            return self._images.read(keys, ask).values

    def texts(self, texts: Sequence[str]) -> Floats32:
        """Embeddings [m, d] of texts. The model must have a text tower (`has_text`)."""

        def ask(positions: Sequence[int]) -> ComputedRows:
            embeddings = self.model.embed_texts([texts[position] for position in positions])
            if embeddings is None:
                msg = f"`texts` must go to a model with a text tower; {self.model.name} has none."
                raise UserError(msg)
            return self._answer(embeddings, _numbered(positions))

        return self._texts.read([text_key(text) for text in texts], ask).values

    def image_tokens(self, samples: Samples, keys: Sequence[str] | None = None) -> Tokens | None:
        """Patch tokens of samples in their order; None where the model gives none."""
        model = self.model
        if not isinstance(model, TokenEmbedder):
            return None
        keys = image_keys(samples) if keys is None else keys
        with self._bar("patches", self._patches, keys) as advance:

            def ask(positions: Sequence[int]) -> ComputedRows:
                chosen = samples.take(list(positions))
                tokens = model.image_tokens(chosen, advance=advance)
                if tokens is None:
                    raise _NoTokens
                names = [f"row {row}" for row in chosen.rows]
                return ComputedRows(values=_checked(tokens.values, names, model.name), grid=tokens.grid)

            try:
                read = self._patches.read(keys, ask)
            except _NoTokens:
                return None
        mask = np.ones(read.values.shape[:2], dtype=np.bool_)
        return Tokens(values=read.values, mask=mask, grid=read.grid, geometry=model.geometry, cut=model.cut)

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:
        """Token states of texts in their order, padded to the longest; None where the model gives none."""
        model = self.model
        if not isinstance(model, TokenEmbedder):
            return None

        def ask(positions: Sequence[int]) -> ComputedRows:
            tokens = model.text_tokens([texts[position] for position in positions])
            if tokens is None:
                raise _NoTokens
            values = _checked(tokens.values, _numbered(positions), model.name)
            return ComputedRows(values=values[tokens.mask], lengths=tokens.mask.sum(axis=1, dtype=np.int64))

        try:
            return _padded(self._words.read([text_key(text) for text in texts], ask))
        except _NoTokens:
            return None

    @contextmanager
    def _bar(self, what: str, rows: CachedOutput, keys: Sequence[str]) -> Iterator[Advance]:
        """Progress over the distinct `keys` that is shown once something is asked for."""
        missing, total = len(rows.missing(keys)), len(set(keys))
        shown: list[Advance] = []
        with ExitStack() as stack:

            def advance(count: int) -> None:
                if not shown:
                    bar = self.progress.track(f"{self.model.name}: {what}", total, done=total - missing)
                    shown.append(stack.enter_context(bar))
                shown[0](count)

            yield advance

    def _rows(self, name: str, output: Signal, shard_rows: int) -> CachedOutput:
        dtype: StoredPrecision = "float32" if output in ("image", "text") else "float16"
        card = getattr(self.model, "card", None) or _card_of(self.model)
        return CachedOutput(self._folder / name, output, card=card, dtype=dtype, shard_rows=shard_rows)

    def _answer(self, embeddings: Floats32, names: Sequence[str]) -> ComputedRows:
        whole = np.ascontiguousarray(embeddings, dtype=np.float32)
        return ComputedRows(values=_checked(whole, names, self.model.name))


def _card_of(model: Embedder) -> TeacherCard:
    """What a store says of a model of which there is no card."""
    return TeacherCard(
        id="model",
        kind="python",
        source=type(model).__name__,
        library="unknown",
        weights_sha256=model.fingerprint,
        licence=resolve(None),
        logit_scale=model.logit_scale,
        signals=frozenset({"image"}),
        pretraining_data=model.pretraining_data,
        parameters=0,
    )


def _padded(read: ComputedRows) -> Tokens:
    lengths = np.zeros(0, np.int64) if read.lengths is None else read.lengths
    mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
    values = np.zeros((*mask.shape, read.values.shape[-1]), dtype=np.float16)
    values[mask] = read.values
    return Tokens(values=values, mask=mask)


def _numbered(positions: Sequence[int]) -> list[str]:
    return [f"text {position + 1}" for position in positions]


def _checked(values: NDArray[Any], names: Sequence[str], model: str) -> NDArray[Any]:
    bad = [name for name, row in zip(names, values, strict=True) if not np.isfinite(row).all()]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        msg = f"Embeddings of {model} must be finite; they are not at {', '.join(bad[:5])}{more}."
        raise NonFiniteError(msg)
    return values
