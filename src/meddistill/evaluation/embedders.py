"""Frozen teachers and trained students as evaluation sees them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from meddistill.data.loader import ImageBatches, Rows
from meddistill.data.samples import Samples, name_rows
from meddistill.errors import TeacherError
from meddistill.evaluation.predict import Advance, Floats, Role
from meddistill.evaluation.trainable import TeacherTowers, TrainableTowers
from meddistill.imaging import Geometry
from meddistill.students.dual_encoder import DualEncoder
from meddistill.teachers.frozen import FrozenTeacher


@final
class TeacherEmbedder:
    """A teacher under evaluation, named by its id. It must have image embeddings."""

    def __init__(self, teacher: FrozenTeacher, *, batch_size: int = 64, workers: int = 0) -> None:
        card = teacher.card
        if "image_embedding" not in card.capabilities or card.input is None:
            msg = f"Teacher `{card.id}` must embed images to be evaluated; it does not. Leave it out."
            raise TeacherError(msg)
        self.name = card.id
        self.role: Role = "teacher"
        self.fingerprint = card.fingerprint
        self.logit_scale = card.logit_scale
        self.pretraining_data = card.pretraining_data
        self._teacher, self._geometry = teacher, card.input.geometry
        self._batch_size, self._workers = batch_size, workers

    def embed_images(self, samples: Samples, *, advance: Advance) -> Floats:
        """Image embeddings, float32, in the order of `samples`."""
        batches = ImageBatches(
            samples, frozenset({self._geometry}), batch_size=self._batch_size, workers=self._workers
        )

        def embed(numbers: Rows, rasters: Tensor) -> Tensor:
            try:
                return self._teacher.image_embeddings(rasters)
            except TeacherError as error:
                rows = [samples.rows[numbers[place]] for place in self._culprits(rasters)]
                msg = f"{error} In the table: {name_rows(rows)}." if rows else str(error)
                raise TeacherError(msg) from error

        return _gathered(batches, self._geometry, embed, advance)

    def _culprits(self, rasters: Tensor) -> list[int]:
        """Which images of a batch the teacher fails on when it sees them alone."""
        found = []
        for place in range(len(rasters)):
            try:
                self._teacher.image_embeddings(rasters[place : place + 1])
            except TeacherError:
                found.append(place)
        return found

    def embed_texts(self, texts: Sequence[str]) -> Floats | None:
        """Text embeddings, float32; None where the teacher has no text tower."""
        if "text_embedding" not in self._teacher.card.capabilities:
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


@final
class StudentEmbedder:
    """A student under evaluation. It is put into evaluation mode and back around every call."""

    def __init__(
        self,
        student: DualEncoder,
        *,
        name: str = "student",
        role: Role = "student",
        pretraining_data: tuple[str, ...] = (),
        batch_size: int = 64,
        workers: int = 0,
    ) -> None:
        self.name = name
        self.role = role
        self.fingerprint = student_fingerprint(student)
        self.logit_scale: float | None = float(student.logit_scale.detach())
        self.pretraining_data = pretraining_data
        self._student, self._geometry = student, student.input.geometry
        self._batch_size, self._workers = batch_size, workers

    def embed_images(self, samples: Samples, *, advance: Advance) -> Floats:
        """Image embeddings, float32, in the order of `samples`."""
        batches = ImageBatches(
            samples, frozenset({self._geometry}), batch_size=self._batch_size, workers=self._workers
        )
        with _Evaluating(self._student):
            return _gathered(
                batches, self._geometry, lambda _, rasters: self._student.embed_images(rasters), advance
            )

    def embed_texts(self, texts: Sequence[str]) -> Floats | None:
        """Text embeddings, float32."""
        with _Evaluating(self._student):
            tokens = [self._student.tokenise(part) for part in _chunks(texts, self._batch_size)]
            return _array(torch.cat([self._student.embed_tokens(part) for part in tokens]))


class _Evaluating:
    """Evaluation mode without gradients, and the former mode back."""

    def __init__(self, student: DualEncoder) -> None:
        self._student, self._training = student, student.training
        self._inference = torch.inference_mode()

    def __enter__(self) -> None:
        self._student.eval()
        self._inference.__enter__()

    def __exit__(self, *error: object) -> None:
        self._inference.__exit__(None, None, None)
        self._student.train(self._training)


def student_fingerprint(student: DualEncoder) -> str:
    """sha256 over weights, preprocessing, context length and tokenizer of a student."""
    digest = hashlib.sha256()
    digest.update(student.input.model_dump_json().encode())
    digest.update(f"{student.context_length} {type(student.tokeniser).__name__}".encode())
    digest.update(_array(student.tokenise(["Pneumonia, left lower lobe: 12 mm; naïve α"])).tobytes())
    for name, tensor in sorted(student.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _gathered(
    batches: ImageBatches, geometry: Geometry, embed: Callable[[Rows, Tensor], Tensor], advance: Advance
) -> Floats:
    rows, embeddings = [], []
    for numbers, rasters in batches:
        rows.append(np.asarray(numbers, dtype=np.int64))
        embeddings.append(_array(embed(numbers, rasters[geometry])))
        advance(len(numbers))
    order = np.argsort(np.concatenate(rows), kind="stable")
    return np.concatenate(embeddings)[order]


def _chunks(texts: Sequence[str], size: int) -> list[list[str]]:
    return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().to("cpu", torch.float32).numpy()
    return array
