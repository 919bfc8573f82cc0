"""Models as evaluation sees them: teachers, students and baselines through one class."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from meddistill.arrays import Floats32, Ints
from meddistill.data.loader import ImageBatches
from meddistill.data.samples import Samples, name_rows
from meddistill.errors import TeacherError
from meddistill.evaluation.models.protocols import NO_TEXT, UNTRAINED_TEXT, Advance, Role, Tokens
from meddistill.evaluation.models.trainable import TeacherTowers, TrainableTowers
from meddistill.imaging import InputSpec
from meddistill.students.folder import verify_student
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import OpenClipTeacher, Precision
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

_FOLDER: Final = "student"

Answer = TypeVar("Answer")


@final
class ModelEmbedder:
    """A frozen model under evaluation, named by its id unless it is given a name.

    Raises TeacherError for a model that does not embed images.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        *,
        name: str | None = None,
        role: Role = "teacher",
        batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        card = teacher.card
        spec = image_input(card)
        self.card = card
        self.name = card.id if name is None else name
        self.role: Role = role
        self.fingerprint = card.fingerprint
        self.logit_scale = card.logit_scale
        self.pretraining_data = card.pretraining_data
        self.has_text = "text" in card.signals
        self.no_text_reason = UNTRAINED_TEXT if "text" in teacher.unused else NO_TEXT
        self._teacher, self.geometry = teacher, spec.geometry
        self.cut = card.centre_crop
        self._batch_size, self._workers = batch_size, workers

    def embed_images(self, samples: Samples, *, advance: Advance) -> Floats32:
        """Image embeddings, float32, in the order of `samples`."""
        parts = self._answers(
            samples, lambda rasters: _array(self._teacher.image_embeddings(rasters)), advance
        )
        return np.concatenate(parts)

    def embed_texts(self, texts: Sequence[str]) -> Floats32 | None:
        """Text embeddings, float32; None where the model has no text tower."""
        if not self.has_text:
            return None
        parts = [self._teacher.text_embeddings(part) for part in _chunks(texts, self._batch_size)]
        return _array(torch.cat(parts))

    @property
    def tunable(self) -> bool:
        """Whether `trainable` gives anything: graphs, and what is only stored, cannot learn."""
        return bool(self._teacher.modules)

    def trainable(self) -> TrainableTowers:
        """A fresh copy of both towers, with gradients."""
        return TeacherTowers(self._teacher)

    def image_tokens(self, samples: Samples, *, advance: Advance) -> Tokens | None:
        """Patch tokens in the order of `samples`, float16; None where the model has none."""
        if "patches" not in self._teacher.card.signals:
            return None
        grids: set[tuple[int, int]] = set()

        def patches(rasters: Tensor) -> Tensor:
            output = self._teacher.patch_tokens(rasters)
            grids.add(output.grid)
            return output.tokens.to("cpu", torch.float16)

        values = torch.cat(self._answers(samples, patches, advance)).numpy()
        (grid,) = grids
        mask = np.ones(values.shape[:2], dtype=np.bool_)
        return Tokens(values=values, mask=mask, grid=grid, geometry=self.geometry, cut=self.cut)

    def text_tokens(self, texts: Sequence[str]) -> Tokens | None:
        """Token states of texts, float16, padded to the longest; None where the model has none."""
        if "text_tokens" not in self._teacher.card.signals:
            return None
        parts = [self._teacher.text_tokens(part) for part in _chunks(texts, self._batch_size)]
        length = max(part.mask.shape[1] for part in parts)
        padded = [(F.pad(each.tokens, (0, 0, 0, length - each.mask.shape[1])), each.mask) for each in parts]
        values = torch.cat([tokens.to("cpu", torch.float16) for tokens, _ in padded])
        masks = [F.pad(mask, (0, length - mask.shape[1])).cpu() for _, mask in padded]
        return Tokens(values=values.numpy(), mask=torch.cat(masks).numpy())

    def _answers(
        self, samples: Samples, model_call: Callable[[Tensor], Answer], advance: Advance
    ) -> list[Answer]:
        """What the teacher answers to every batch of images; an error names the rows of the table."""
        batches = ImageBatches(
            samples, frozenset({self.geometry}), batch_size=self._batch_size, workers=self._workers
        )
        outputs = []
        for numbers, rasters in batches:
            images = rasters[self.geometry]
            try:
                outputs.append(model_call(images))
            except TeacherError as error:
                raise _with_rows(error, samples, numbers, self._failing_rows(images, model_call)) from error
            advance(len(numbers))
        return outputs

    def _failing_rows(self, rasters: Tensor, model_call: Callable[[Tensor], Answer]) -> list[int]:
        """Which images of a batch the teacher fails on when it sees them alone."""
        failing = []
        for place in range(len(rasters)):
            try:
                model_call(rasters[place : place + 1])
            except TeacherError:
                failing.append(place)
        return failing


def image_input(card: TeacherCard) -> InputSpec:
    """What the model's images must be. Raises TeacherError for one that embeds none."""
    if "image" not in card.signals or card.input is None:
        msg = f"Teacher `{card.id}` must embed images to be evaluated; it does not. Leave it out."
        raise TeacherError(msg)
    return card.input


def load_student_as_teacher(
    folder: Path,
    *,
    id: str = _FOLDER,
    modalities: tuple[str, ...] | None = None,
    precision: Precision = "float32",
) -> FrozenTeacher:
    """A saved student as stock open_clip loads it: the form in which it ships is the one that is evaluated.

    Without its text tower, if nothing has trained that. `id`, `modalities` and `precision` are those of the
    card; the rest of it is what the folder says.

    Raises
    ------
    CheckpointError
        If a file is absent, damaged, or not the one that was written.
    TeacherError
        If open_clip cannot load it.
    """
    metadata = verify_student(folder)
    config = OpenClipTeacher(
        kind="open_clip",
        model=f"local-dir:{folder.resolve()}",
        licence=metadata.licence,
        input=metadata.input,
        pretraining_data=metadata.provenance.pretraining_data,
        modalities=modalities,
        precision=precision,
    )
    teacher = load_teacher(id, config, base=folder)
    if metadata.provenance.text_trained:
        return teacher
    images_alone = teacher.card.signals - {"text", "text_tokens"}
    dims = {signal: dim for signal, dim in teacher.card.dims.items() if signal in images_alone}
    return teacher.with_card(teacher.card.model_copy(update={"signals": images_alone, "dims": dims}))


def _with_rows(error: TeacherError, samples: Samples, numbers: Ints, places: Sequence[int]) -> TeacherError:
    rows = [samples.rows[numbers[place]] for place in places]
    return TeacherError(f"{error} In the table: {name_rows(rows)}." if rows else str(error))


def _chunks(texts: Sequence[str], size: int) -> list[list[str]]:
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def _array(tensor: Tensor) -> Floats32:
    array: Floats32 = tensor.detach().to("cpu", torch.float32).numpy()
    return array
