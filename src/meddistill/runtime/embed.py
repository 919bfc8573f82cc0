"""Images and texts to unit vectors, with stock ONNX Runtime."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from meddistill.arrays import Floats32
from meddistill.bundle_format import TOKENIZER, TOWER_FILES, Precision
from meddistill.errors import BundleError, ConfigError, one_line
from meddistill.imaging import ImageRef, normalize, normalize_text
from meddistill.runtime.bundle import Bundle
from meddistill.runtime.pipeline import Decoder, OnMistake

_EXPORT = "If that does not help, export the bundle again."
_ONLY_ERRORS = 3  # severity of ONNX Runtime's own log on stderr


@dataclass(frozen=True)
class Embedded:
    """`vectors` `[b, d]` of the images at `rows` of what was asked for; `flat` as of `Rasters`."""

    rows: tuple[int, ...]
    vectors: Floats32
    flat: tuple[int, ...] = ()


class Embedder:
    """A bundle's two towers, loaded when first used.

    Parameters
    ----------
    bundle
        An opened bundle.
    threads
        Threads of ONNX Runtime inside one operator, and of decoding; None leaves both to the machine.
    providers
        ONNX Runtime's execution providers, by preference.
    precision
        `int8` takes the towers in 8 bits: a quarter of the size, and other numbers by what the manifest's
        `int8` says. BundleError where the bundle has none.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        precision: Precision = "float32",
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(subject="embedder", mistakes=[f"`threads` must be at least 1; got {threads}."])
        bundle.require(precision)
        self.bundle = bundle
        self.precision = precision
        self._files = TOWER_FILES[precision]
        self._threads = threads
        self._providers = tuple(providers)

    @property
    def dim(self) -> int:
        """The length `d` of every vector."""
        return self.bundle.manifest.embed_dim

    @property
    def image_model(self) -> str:
        """The sha256 of the image tower, in hex: vectors of different towers cannot be compared."""
        return self.bundle.manifest.files[self._files.image].sha256

    def embed_images(self, refs: Sequence[ImageRef], *, batch_size: int = 32) -> Floats32:
        """Unit vectors `[n, d]` float32 of images; raises the ImageError of the first that cannot be read."""
        parts = [part.vectors for part in self.stream_images(refs, batch_size=batch_size)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def stream_images(
        self, refs: Sequence[ImageRef], *, batch_size: int = 32, on_mistake: OnMistake | None = None
    ) -> Iterator[Embedded]:
        """Floats32 batch by batch, in order; decoding runs in threads while ONNX Runtime computes.

        An image that cannot be read raises its ImageError, or is told to `on_mistake(row, error)` and left
        out.
        """
        _check_batch_size(batch_size)
        spec = self.bundle.preprocessing.input
        decoder = Decoder(spec.geometry, self.bundle.preprocessing.decode, self._threads)
        for batch in decoder.batches(refs, batch_size=batch_size, on_mistake=on_mistake):
            pixels = normalize(batch.pixels, spec)
            vectors = self._run(self._image_session, self._files.image, pixels)
            yield Embedded(batch.rows, vectors, batch.flat)

    def embed_texts(self, texts: Sequence[str], *, batch_size: int = 64) -> Floats32:
        """Unit vectors `[n, d]` float32 of texts; those longer than the context length are cut.

        Raises BundleError where nothing has trained the text tower.
        """
        _check_batch_size(batch_size)
        if texts and not self.bundle.manifest.text_trained:
            msg = (
                f"`{self.bundle.folder}` must have a text tower that was trained; this student was trained "
                "on images alone. Embed images, or use a bundle whose student had captions."
            )
            raise BundleError(msg)
        parts = [
            self._run(self._text_session, self._files.text, self.tokenize(texts[start : start + batch_size]))
            for start in range(0, len(texts), batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)

    def tokenize(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids `[n, context]` int64. A text without a character is a ConfigError."""
        normalized = [normalize_text(text) for text in texts]
        empty = [row for row, text in enumerate(normalized) if not text]
        if empty:
            raise ConfigError(
                subject="texts", mistakes=[f"text {row} must not be empty." for row in empty[:5]]
            )
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(normalized)]
        length = self.bundle.manifest.context_length
        if any(len(row) != length for row in rows):
            raise self._refusal(TOKENIZER, f"must pad and cut to {length} tokens", _EXPORT)
        return np.asarray(rows, dtype=np.int64).reshape(len(rows), length)

    @cached_property
    def _image_session(self) -> Any:
        return self._session(self._files.image)

    @cached_property
    def _text_session(self) -> Any:
        return self._session(self._files.text)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self.bundle.file(TOKENIZER)
        try:
            return Tokenizer.from_buffer(path.read_bytes())
        except Exception as error:  # the library raises a bare Exception
            rule = f"must be readable by this version of tokenizers; got {one_line(error)}"
            raise self._refusal(TOKENIZER, rule, f"Update tokenizers. {_EXPORT}") from error

    def _session(self, name: str) -> Any:
        path = self.bundle.file(name)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ONLY_ERRORS
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        try:
            return onnxruntime.InferenceSession(path.read_bytes(), options, providers=list(self._providers))
        except Exception as error:  # ONNX Runtime has an exception class a status code, with no common base
            rule = f"must be loadable by this version of ONNX Runtime; got {one_line(error)}"
            raise self._refusal(name, rule, f"Update onnxruntime. {_EXPORT}") from error

    def _run(self, session: Any, name: str, batch: NDArray[Any]) -> Floats32:
        try:
            vectors = np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])
        except Exception as error:  # as above
            rule = f"must take {batch.shape}; got {one_line(error)}"
            raise self._refusal(name, rule, self._elsewhere("Lower `batch_size`.")) from error
        if vectors.shape != (len(batch), self.dim):
            raise self._refusal(name, f"must give vectors of {self.dim}; got shape {vectors.shape}", _EXPORT)
        if not np.isfinite(vectors).all():
            rule = "must give finite numbers; got NaN or infinity"
            raise self._refusal(name, rule, self._elsewhere(_EXPORT))
        return vectors.astype(np.float32, copy=False)

    def _elsewhere(self, otherwise: str) -> str:
        on_cpu = self._providers == ("CPUExecutionProvider",)
        return otherwise if on_cpu else 'Run it with `providers=["CPUExecutionProvider"]`.'

    def _refusal(self, name: str, rule: str, do: str) -> BundleError:
        # The file's hash was checked before: what is wrong with it now was so when it was exported.
        msg = f"`{self.bundle.folder / name}` {rule}. {do}"
        return BundleError(msg)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(
            subject="embedder", mistakes=[f"`batch_size` must be at least 1; got {batch_size}."]
        )
