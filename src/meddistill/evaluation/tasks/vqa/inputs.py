"""What the head sees of images and questions: tokens of frozen towers from memory, or of tuned ones."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from meddistill.arrays import Flags, Floats32, Ints
from meddistill.data.samples import Samples
from meddistill.errors import NonFiniteError
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Tokens
from meddistill.evaluation.models.trainable import TrainableTowers
from meddistill.evaluation.tasks.vqa.questions import Questions

POOLED_IMAGES: Final = "one pooled vector an image, for want of patch tokens"
POOLED_TEXTS: Final = "one pooled vector a question, for want of text tokens"


class Seen(NamedTuple):
    """A batch for the head: patches [b, p, d], which count [b, p], tokens [b, l, e], which count [b, l]."""

    patches: Tensor
    seen: Tensor
    tokens: Tensor
    read: Tensor


class Inputs(nn.Module):
    """Images and questions of rows, those of all tables one after the other; parameters are of towers."""

    @abstractmethod
    def forward(self, rows: Ints) -> Seen:
        """What the head sees of these rows."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of all tables one after the other, as distinct images and questions.

    `images` holds for every table its samples with distinct images; `image_of` and `question_of` [N] say
    which distinct image and question a row has; `spans` are the rows of each table.
    """

    images: tuple[tuple[Samples, tuple[str, ...]], ...]
    questions: tuple[str, ...]
    image_of: Ints
    question_of: Ints
    spans: Mapping[str, range]


def rows_of(parts: Mapping[str, EvalSplit], questions: Mapping[str, Questions]) -> Rows:
    """The rows of all tables."""
    place: dict[str, int] = {}
    images = []
    for part in parts.values():
        first = {key: row for row, key in reversed(list(enumerate(part.keys))) if key not in place}
        new = sorted(first, key=lambda key: first[key])
        place |= {key: len(place) + number for number, key in enumerate(new)}
        if new:
            images.append((part.samples.take([first[key] for key in new]), tuple(new)))
    keys = [key for part in parts.values() for key in part.keys]
    texts = [text for role in parts for text in questions[role].texts]
    distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    ends = list(accumulate((len(part) for part in parts.values()), initial=0))
    return Rows(
        images=tuple(images),
        questions=tuple(distinct),
        image_of=np.array([place[key] for key in keys], dtype=np.int64),
        question_of=np.array([distinct[text] for text in texts], dtype=np.int64),
        spans={role: range(*pair) for role, pair in zip(parts, pairwise(ends), strict=True)},
    )


@dataclass(frozen=True, kw_only=True)
class _States:
    values: NDArray[np.floating[Any]]
    mask: Flags


@final
class FrozenInputs(Inputs):
    """Tokens of frozen towers, kept in memory as float16; batches are float32.

    A tower that gives no tokens gives its embedding as a sequence of one; `note` then says so.
    """

    def __init__(self, embeddings: Embeddings, rows: Rows, device: torch.device) -> None:
        super().__init__()
        self._rows, self._device = rows, device
        images, image_note = _image_states(embeddings, rows)
        questions, text_note = _question_states(embeddings, rows)
        self._images, self._questions = images, questions
        self.note = "; ".join(note for note in (image_note, text_note) if note)

    def forward(self, rows: Ints) -> Seen:
        """What the head sees of these rows."""
        images = self._moved(self._images, self._rows.image_of[rows])
        questions = self._moved(self._questions, self._rows.question_of[rows])
        return Seen(*images, *without_padding(*questions))

    def _moved(self, states: _States, places: Ints) -> tuple[Tensor, Tensor]:
        values = torch.from_numpy(states.values[places]).to(self._device).float()
        return values, torch.from_numpy(states.mask[places]).to(self._device)


@final
class TunedInputs(Inputs):
    """Tokens of towers that learn with the head; rasters are kept in memory."""

    def __init__(self, towers: TrainableTowers, rows: Rows, rasters: Tensor) -> None:
        super().__init__()
        self.towers = towers
        self._rows, self._rasters = rows, rasters

    def forward(self, rows: Ints) -> Seen:
        """What the head sees of these rows; every distinct question of them is read once."""
        patches = self.towers.image_tokens(self._rasters[torch.from_numpy(self._rows.image_of[rows])])
        distinct, place = np.unique(self._rows.question_of[rows], return_inverse=True)
        tokens, read = self.towers.text_tokens([self._rows.questions[number] for number in distinct])
        tokens, read = without_padding(tokens, read)
        chosen = torch.from_numpy(place).to(tokens.device)
        seen = patches.new_ones(patches.shape[:2], dtype=torch.bool)
        return Seen(patches, seen, tokens[chosen], read[chosen])


def without_padding(tokens: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """`tokens` [b, l, e] and `read` [b, l] without the places at the end that no row reads."""
    length = int(read.any(dim=0).nonzero().max()) + 1
    return tokens[:, :length], read[:, :length]


def _image_states(embeddings: Embeddings, rows: Rows) -> tuple[_States, str]:
    parts = []
    for samples, keys in rows.images:
        tokens = embeddings.image_tokens(samples, keys)
        if tokens is None:
            pooled = [embeddings.images(*each) for each in rows.images]
            return _pooled(np.concatenate(pooled)), POOLED_IMAGES
        parts.append(tokens)
    return _states(parts, "patch tokens", embeddings.model.name), ""


def _question_states(embeddings: Embeddings, rows: Rows) -> tuple[_States, str]:
    tokens = embeddings.text_tokens(rows.questions)
    if tokens is None:
        return _pooled(embeddings.texts(rows.questions)), POOLED_TEXTS
    return _states([tokens], "tokens of questions", embeddings.model.name), ""


def _pooled(vectors: Floats32) -> _States:
    return _States(values=vectors[:, None, :], mask=np.ones((len(vectors), 1), dtype=bool))


def _states(parts: Sequence[Tokens], what: str, model: str) -> _States:
    values = np.concatenate([each.values for each in parts])
    mask = np.concatenate([each.mask for each in parts])
    bad = int((~np.isfinite(values).all(axis=(1, 2))).sum())
    if bad:
        msg = f"{what.capitalize()} of {model} must be finite; they are not for {bad} of {len(values)}."
        raise NonFiniteError(msg)
    return _States(values=values, mask=mask)
