"""The tensor records that travel between rooms: what a batch, a teacher and a student hand over.

Each says which of its fields have a row a sample (`per_row`) and takes others in their place (`with_rows`),
so that cutting, joining and moving are written once, below, for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from meddistill.imaging import Geometry


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of a table, decoded once, as uint8. Each model normalises them on the device.

    `samples` are row numbers in the `Samples` they came from. `rasters` is the student's view at the
    student's geometry; `teacher_rasters` holds one raster per distinct teacher geometry and is empty when
    the teachers' outputs come from a feature store. `views` holds the index of the view that each of the
    student's rasters shows, 0 for the whole image. `tokens` are the student's. Rows with the same
    `image_group` show the same image, rows with the same `text_group` carry the same caption; a row without
    a caption has a number below 0 of its own. Without any caption in the data `tokens` have no columns.
    `groups` numbers the groups of rows, from 0, that a rule of balancing weighs apart; None without one.
    `on_host` names what is looked at on the host and goes to no device.
    """

    on_host: ClassVar[frozenset[str]] = frozenset({"samples", "views", "tokens", "texts", "modalities"})

    samples: Int[Tensor, " batch"]
    views: Int[Tensor, " batch"]
    rasters: UInt8[Tensor, "batch height width 3"]
    tokens: Int[Tensor, "batch context"]
    image_group: Int[Tensor, " batch"]
    text_group: Int[Tensor, " batch"]
    texts: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    groups: Int[Tensor, " batch"] | None = None
    teacher_rasters: Mapping[Geometry, UInt8[Tensor, "batch th tw 3"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.samples.shape[0]

    @property
    def captioned(self) -> Bool[Tensor, " batch"]:
        """Which rows have a caption."""
        return self.text_group >= 0

    def per_row(self) -> dict[str, Any]:
        """Everything: all fields have a row a sample; `teacher_rasters` under their geometries."""
        names = ("samples", "views", "rasters", "tokens", "image_group", "text_group", "texts", "modalities")
        given = names if self.groups is None else (*names, "groups")
        return {name: getattr(self, name) for name in given} | {
            f"teacher_rasters {place}": each for place, each in enumerate(self.teacher_rasters.values())
        }

    def numbers(self) -> dict[str, Int[Tensor, " batch"]]:
        """What the loss of the global batch is told of its rows, besides what the models give for them."""
        numbers = {"image_group": self.image_group, "text_group": self.text_group}
        return numbers if self.groups is None else {**numbers, "groups": self.groups}

    def with_rows(self, rows: Mapping[str, Any]) -> Self:
        """The same with these rows."""
        own = {name: each for name, each in rows.items() if not name.startswith("teacher_rasters ")}
        rasters = {
            geometry: rows.get(f"teacher_rasters {place}", given)
            for place, (geometry, given) in enumerate(self.teacher_rasters.items())
        }
        return replace(self, **own, teacher_rasters=rasters)


@dataclass(frozen=True, kw_only=True)
class TeacherOutputs:
    """What one teacher gives for the rows of a batch; an embedding is None for a tower that it does not have.

    Availability is by tower: rows where `image_available` (`text_available`) is False hold zeros in `image`
    (`text`), which stand for nothing and must not be used. Embeddings are as the teacher gives them, not
    normalised. `logit_scale` is the factor (already exponentiated) that the teacher puts before its cosines,
    None for teachers without one.
    """

    image: Float[Tensor, "batch teacher_dim"] | None = None
    text: Float[Tensor, "batch teacher_dim"] | None = None
    image_available: Bool[Tensor, " batch"] | None = None
    text_available: Bool[Tensor, " batch"] | None = None
    logit_scale: float | None = None

    @classmethod
    def of_rows(
        cls,
        available: Bool[Tensor, " batch"],
        *,
        image: Float[Tensor, "batch teacher_dim"] | None = None,
        text: Float[Tensor, "batch teacher_dim"] | None = None,
        captioned: Bool[Tensor, " batch"] | None = None,
        logit_scale: float | None = None,
    ) -> Self:
        """Of a teacher that has all its towers for the rows of `available`, and none for the others.

        `captioned`: which rows have a caption for its text tower, None for all.
        """
        read = available if captioned is None else available & captioned
        return cls(
            image=image,
            text=text,
            image_available=None if image is None else available,
            text_available=None if text is None else read,
            logit_scale=logit_scale,
        )

    @property
    def towers(self) -> dict[str, tuple[Float[Tensor, "batch teacher_dim"], Bool[Tensor, " batch"]]]:
        """Embeddings and availability of each tower that the teacher has, `image` or `text`."""
        towers = {}
        if self.image is not None and self.image_available is not None:
            towers["image"] = self.image, self.image_available
        if self.text is not None and self.text_available is not None:
            towers["text"] = self.text, self.text_available
        return towers

    @property
    def available(self) -> Bool[Tensor, " batch"]:
        """The rows for which the teacher has one tower at least."""
        return torch.stack([available for _, available in self.towers.values()]).any(dim=0)

    def per_row(self) -> dict[str, Tensor]:
        """Embeddings and availability of the towers that the teacher has."""
        fields: dict[str, Tensor] = {}
        for name, (rows, available) in self.towers.items():
            fields |= {name: rows, f"{name}_available": available}
        return fields

    def with_rows(self, rows: Mapping[str, Any]) -> Self:
        """The same with these rows."""
        return replace(self, **rows)


@dataclass(frozen=True, kw_only=True)
class StudentOutputs:
    """The student's embeddings, not normalised, and its exponentiated logit scale (a scalar).

    `passes` holds image embeddings of further passes, by the names that the method gives them.
    `captioned` says which rows have a caption, None for all: `text` of the others stands for nothing.
    `groups` are those of the batch.
    """

    image: Float[Tensor, "batch dim"]
    text: Float[Tensor, "batch dim"]
    logit_scale: Float[Tensor, ""]
    passes: Mapping[str, Float[Tensor, "batch dim"]] = field(default_factory=dict)
    captioned: Bool[Tensor, " batch"] | None = None
    groups: Int[Tensor, " batch"] | None = None

    def embeddings(self) -> dict[str, Float[Tensor, "batch dim"]]:
        """Those of whole images and of texts, and of the further passes."""
        return {"image": self.image, "text": self.text, **self.passes}

    def shared(self) -> dict[str, Float[Tensor, ""]]:
        """What all rows share, and gradients flow to."""
        return {"logit_scale": self.logit_scale}

    def differentiable(self) -> dict[str, Tensor]:
        """All that gradients flow to."""
        return {**self.embeddings(), **self.shared()}

    def per_row(self) -> dict[str, Tensor]:
        """The embeddings, and what is known of their rows."""
        known = {"captioned": self.captioned, "groups": self.groups}
        return self.embeddings() | {name: each for name, each in known.items() if each is not None}

    def with_rows(self, rows: Mapping[str, Any]) -> Self:
        """The same with these rows, or with another tensor that they share."""
        own = {name: each for name, each in rows.items() if name not in self.passes}
        passes = {name: rows.get(name, each) for name, each in self.passes.items()}
        return replace(self, **own, passes=passes)


@dataclass(frozen=True, kw_only=True)
class RowLosses:
    """Losses per row, before any reduction.

    `total` is the row's summed loss, `count` its denominator (rows, tokens or pixels). A row that the mask
    leaves out has both zero.
    """

    total: Float[Tensor, " batch"]
    count: Float[Tensor, " batch"]


class Record(Protocol):
    """What `Batch`, `TeacherOutputs` and `StudentOutputs` have in common."""

    def per_row(self) -> dict[str, Any]:
        """What has a row a sample, by name."""
        ...

    def with_rows(self, rows: Mapping[str, Any]) -> Self:
        """The same record with `rows` in place of those that `per_row` gave; what they do not name stays."""
        ...


AnyRecord = TypeVar("AnyRecord", bound=Record)


def map_rows(record: AnyRecord, change: Callable[[Any], Any]) -> AnyRecord:
    """`record` with `change` done to all that has a row a sample."""
    return record.with_rows({name: change(each) for name, each in record.per_row().items()})


def map_embeddings(outputs: StudentOutputs, change: Callable[[Tensor], Tensor]) -> StudentOutputs:
    """`outputs` with `change` done to the embeddings."""
    return outputs.with_rows({name: change(each) for name, each in outputs.embeddings().items()})


def map_differentiable(outputs: StudentOutputs, change: Callable[[Tensor], Tensor]) -> StudentOutputs:
    """`outputs` with `change` done to all that gradients flow to."""
    return outputs.with_rows({name: change(each) for name, each in outputs.differentiable().items()})


def cut(record: AnyRecord, rows: slice) -> AnyRecord:
    """The part of a record that has these rows."""
    return map_rows(record, lambda each: each[rows])


def join(parts: Sequence[AnyRecord]) -> AnyRecord:
    """The rows of all parts, one after another; what they share is the first one's."""
    rows = [part.per_row() for part in parts]
    return parts[0].with_rows({name: _concatenated([part[name] for part in rows]) for name in rows[0]})


def _concatenated(parts: Sequence[Any]) -> Any:
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else tuple(chain(*parts))


def positives(
    image_group: Int[Tensor, " batch"], text_group: Int[Tensor, " batch"]
) -> Bool[Tensor, "batch batch"]:
    """Which pairs of rows show the same image or carry the same caption; the diagonal is True."""
    same_image = image_group[:, None] == image_group[None, :]
    same_text = text_group[:, None] == text_group[None, :]
    return torch.logical_or(same_image, same_text)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`, by a copy that nobody waits for.

    To a GPU from pinned memory: from any other the copy begins when the GPU has done all it was given before.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
