"""What the teachers say of a batch: read from a store, or asked now. Two sources of one record."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from meddistill.data.keys import image_keys, text_keys
from meddistill.data.samples import Samples
from meddistill.errors import StoreError, TeacherError
from meddistill.features.availability import Mask, by_modality
from meddistill.features.reader import FeatureStore, covered
from meddistill.features.rows import Indices
from meddistill.features.tables import ABSENT
from meddistill.records import Batch, TeacherOutputs, to_device
from meddistill.signals import TOWERS, Tower
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher

TeacherView = Literal["fixed", "consistent"]


class TeacherSource(Protocol):
    """Gives every teacher's outputs for the rows of a batch, zeros where a teacher is not available."""

    @property
    def cards(self) -> Mapping[str, TeacherCard]:
        """The teachers' cards by id."""
        ...

    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]:
        """The outputs by the teacher's id, float32 on the source's device."""
        ...


@final
class StoredTeachers:
    """Outputs from a feature store.

    Where the store has each sample is looked up once; a batch then costs one gather per teacher and tower.
    Numbers cross to the device as they are stored and become float32 there.

    Parameters
    ----------
    samples
        What `Batch.samples` count in.
    teacher_ids
        Which teachers of the store to read, in this order.
    view
        `fixed` reads view 0, the whole image; `consistent` reads the view that the student sees
        (`Batch.views`).
    keys
        The samples' `image_keys` if they are known already.
    available
        Whether each teacher is available for each sample; by default by modality alone.

    Raises
    ------
    StoreError
        If the store lacks images, captions or a teacher's features of them; the message counts them.
    """

    def __init__(
        self,
        store: FeatureStore,
        samples: Samples,
        teacher_ids: Sequence[str],
        *,
        device: torch.device | str = "cpu",
        view: TeacherView = "fixed",
        keys: Sequence[str] | None = None,
        available: Mapping[str, Mask] | None = None,
    ) -> None:
        self.cards: Mapping[str, TeacherCard] = {name: store.card(name) for name in teacher_ids}
        self._store = store
        self._device = torch.device(device)
        self._view = view
        self._pairs = _looked_up(store, samples, keys)
        self._captioned = self._pairs[:, 1] != ABSENT
        asked = by_modality(samples, self.cards) if available is None else available
        self._available = {
            name: asked[name] & self._captioned if store.by_pair(name) else asked[name] for name in self.cards
        }
        self._rows = {
            (name, tower): store.rows_of(name, tower, self._pairs)
            for name in self.cards
            for tower in TOWERS
            if tower in store.outputs(name)
        }
        _require_complete(store, self._rows, self._available)

    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]:
        """See `TeacherSource`. Raises StoreError for a view that the store does not hold."""
        samples = batch.samples.cpu().numpy()
        views = self._views(batch)
        captioned = to_device(torch.from_numpy(self._captioned[samples]), self._device)
        outputs = {}
        for name, card in self.cards.items():
            mask = to_device(torch.from_numpy(self._available[name][samples]), self._device)
            image, text = None, None
            if (name, "image") in self._rows:
                image = self._read(name, "image", samples, views=views, mask=mask)
            if (name, "text") in self._rows and self._captioned.any():
                text = self._read(name, "text", samples, views=None, mask=mask & captioned)
            outputs[name] = TeacherOutputs.of_rows(
                mask, image=image, text=text, captioned=captioned, logit_scale=card.logit_scale
            )
        return outputs

    def _read(
        self, teacher: str, output: Tower, samples: Indices, *, views: Indices | None, mask: Tensor
    ) -> Float[Tensor, "batch dim"]:
        rows = self._rows[teacher, output][samples].clip(min=0)
        stored = torch.from_numpy(self._store.read(teacher, output, rows, views=views))
        values = to_device(stored, self._device).float()
        return values.masked_fill_(~mask[:, None], 0.0)

    def _views(self, batch: Batch) -> Indices:
        if self._view == "fixed":
            return np.zeros(len(batch), dtype=np.int64)
        views: Indices = batch.views.cpu().numpy().astype(np.int64)
        if len(views) and views.max() >= self._store.views:
            msg = (
                f"`views` must be among the {self._store.views} that the store holds; got view "
                f"{views.max()}. Extract with more `features: {{views}}`, or train with `views: fixed`."
            )
            raise StoreError(msg)
        return views


@final
class OnlineTeachers:
    """Outputs asked of the teachers themselves, for the rasters and texts of the batch.

    A teacher sees only the rows that it is available for: of the samples that `available` names, by default
    of the modalities that it covers. Which view `Batch.teacher_rasters` show is the data
    set's to decide. Texts are the batch's own; a store holds the first form of captions that are equal after
    normalising. Each call waits for the device: what a teacher gives is looked at, whether it is finite.
    """

    def __init__(
        self,
        teachers: Mapping[str, FrozenTeacher],
        *,
        device: torch.device | str = "cpu",
        available: Mapping[str, Mask] | None = None,
    ) -> None:
        self._teachers = {name: teacher.to(device) for name, teacher in teachers.items()}
        self._device = torch.device(device)
        self._available = available
        self.cards: Mapping[str, TeacherCard] = {name: each.card for name, each in self._teachers.items()}

    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]:
        """See `TeacherSource`. Raises TeacherError for a batch without the teacher's raster."""
        return {name: self._outputs(name, teacher, batch) for name, teacher in self._teachers.items()}

    def _outputs(self, name: str, teacher: FrozenTeacher, batch: Batch) -> TeacherOutputs:
        card = teacher.card
        available = self._rows(name, card, batch)
        rows = np.flatnonzero(available)
        mask = torch.from_numpy(available).to(self._device)
        image, text = None, None
        if "image" in card.dims:
            rasters = _rasters(name, card, batch)[rows]
            answers = teacher.image_embeddings(rasters) if len(rows) else None
            image = _placed(mask, card.dims["image"], answers)
        captioned = np.array([bool(text) for text in batch.texts or ("",) * len(batch)], dtype=np.bool_)
        read = torch.from_numpy(captioned).to(self._device)
        if "text" in card.dims and batch.texts:
            texts = [batch.texts[row] for row in rows if captioned[row]]
            answers = teacher.text_embeddings(texts) if texts else None
            text = _placed(mask & read, card.dims["text"], answers)
        return TeacherOutputs.of_rows(
            mask, image=image, text=text, captioned=read, logit_scale=card.logit_scale
        )

    def _rows(self, name: str, card: TeacherCard, batch: Batch) -> Mask:
        if self._available is None:
            return covered(card, batch.modalities or ("",) * len(batch))
        return self._available[name][batch.samples.cpu().numpy()]


def _rasters(name: str, card: TeacherCard, batch: Batch) -> Tensor:
    geometry = None if card.input is None else card.input.geometry
    if geometry is None or geometry not in batch.teacher_rasters:
        msg = (
            f"the batch must hold a raster for teacher {name!r} ({geometry}); it has "
            f"{', '.join(map(str, batch.teacher_rasters)) or 'none'}. Give the data set the teachers' "
            "geometries."
        )
        raise TeacherError(msg)
    return batch.teacher_rasters[geometry]


def _placed(
    mask: Bool[Tensor, " batch"], dim: int, values: Float[Tensor, "available dim"] | None
) -> Float[Tensor, "batch dim"]:
    """The values at the rows of the mask, zeros elsewhere."""
    placed = torch.zeros(len(mask), dim, device=mask.device)
    if values is not None:
        placed[mask] = values.to(mask.device)
    return placed


def _looked_up(store: FeatureStore, samples: Samples, keys: Sequence[str] | None) -> Indices:
    """`[samples, 2]`: the rows of each sample's image and caption, ABSENT where it has none."""
    pairs = store.pairs_of(image_keys(samples) if keys is None else keys, text_keys(samples))
    absent = int((pairs[:, 0] < 0).sum()), int((pairs[samples.captioned, 1] < 0).sum())
    if any(absent):
        msg = (
            f"`{store.path}` must hold the table's images and captions; it lacks the images of {absent[0]} "
            f"and the captions of {absent[1]} of {len(samples)} rows. Other files, captions or decoding "
            "options count as other content. Add them with `meddistill features add`."
        )
        raise StoreError(msg)
    return pairs


def _require_complete(
    store: FeatureStore, rows: Mapping[tuple[str, Tower], Indices], available: Mapping[str, Mask]
) -> None:
    for (name, output), asked in rows.items():
        # Of what was derived by pair there are rows for pairs alone, and it is available for no other.
        lacks = asked >= store.output(name, output).rows
        if store.by_pair(name):
            lacks |= (asked < 0) & available[name]
        if lacks.any():
            msg = (
                f"teacher {name!r} must have its {output} output of every row of the table in "
                f"`{store.path}`; {int(lacks.sum())} of {len(asked)} are not there. "
                "Extract again: it goes on where it stopped."
            )
            raise StoreError(msg)
