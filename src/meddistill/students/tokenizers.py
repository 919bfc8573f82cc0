"""Captions to token ids, behind the one text normaliser that training and runtime share."""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, Protocol, Self

import torch
from jaxtyping import Int
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer
from torch import Tensor

from meddistill.clip_tokenizer import clip_tokenizer
from meddistill.errors import ConfigError, first_line
from meddistill.imaging import normalize_text
from meddistill.students.vocabulary import ANY_VERSION, write_tokenizer_files

_SUBJECT: Final = "student"
# transformers 5 writes a name of its own for what every version knows by the other one.
_SINCE_5: Final = "TokenizersBackend"


class CaptionTokenizer(Protocol):
    """Turns captions into fixed-length rows of ids."""

    @property
    def kind(self) -> Literal["clip", "hf"]:
        """`clip` for CLIP's byte-pair vocabulary, `hf` for a tokenizer that came as files."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens a row, the start and end tokens included."""
        ...

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Ids as int32; longer captions are cut and keep their end token."""
        ...

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens that each caption would need, the start and end tokens included."""
        ...

    def save(self, folder: Path) -> None:
        """Write what stock open_clip needs to build this tokenizer from the folder."""
        ...


def _as_is(text: str) -> str:
    return text


class ClipTokenizer:
    """CLIP's byte-pair encoding as open_clip has it.

    open_clip cleans a caption itself before encoding. Here `normalize_text` has done so, and cleaning twice
    is not the same as once: `&amp;amp;amp;lt;` unescapes further every time.
    """

    kind: Final = "clip"

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length
        self.tokenizer: Any = clip_tokenizer(context_length)
        self.tokenizer.clean_fn = _as_is

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: it never changes, and its tables are large."""
        return self

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Rows of `<start_of_text>` … `<end_of_text>`, padded with 0."""
        ids: Tensor = self.tokenizer([normalize_text(text) for text in texts])
        return ids.to(torch.int32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens that each caption would need."""
        return [len(self.tokenizer.encode(normalize_text(text))) + 2 for text in texts]

    def save(self, folder: Path) -> None:
        """Nothing to write: open_clip carries this vocabulary."""


class HuggingFaceTokenizer:
    """A tokenizer of transformers, read from a folder or, with a network, from the hub; or a trained one."""

    kind: Final = "hf"

    def __init__(self, source: str, context_length: int) -> None:
        self.context_length = context_length
        try:
            self.tokenizer: Any = HFTokenizer(source, context_length=context_length)
        except (OSError, ValueError, KeyError) as error:
            msg = (
                f"`text.hf` must be a folder with tokenizer.json and tokenizer_config.json, or a hub id that "
                f"can be reached; got {source!r}. {first_line(error)}"
            )
            raise ConfigError(_SUBJECT, [msg]) from error
        self.tokenizer.clean_fn = _as_is

    @classmethod
    def trained(cls, tokenizer: Tokenizer, context_length: int) -> Self:
        """Of `train_tokenizer`, by way of the files that stock open_clip will read."""
        with TemporaryDirectory() as folder:
            write_tokenizer_files(tokenizer, Path(folder), context_length=context_length)
            return cls(folder, context_length)

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "texts context"]:
        """Rows as the tokenizer's own template makes them, padded with its padding id."""
        ids: Tensor = self.tokenizer([normalize_text(text) for text in texts])
        return ids.to(torch.int32)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens that each caption would need."""
        cleaned = [normalize_text(text) for text in texts]
        # `verbose` would warn of the long ones that are counted here.
        encoded = self.tokenizer.tokenizer(cleaned, truncation=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def save(self, folder: Path) -> None:
        """The tokenizer's files, as transformers writes them."""
        self.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.get("tokenizer_class") == _SINCE_5:
            settings["tokenizer_class"] = ANY_VERSION
            path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
