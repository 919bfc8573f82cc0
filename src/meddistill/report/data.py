"""Everything that a report shows, as one record; whoever fills it needs no knowledge of HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from meddistill.evaluation.audit.record import Audit
from meddistill.evaluation.base.exhibits import AttentionMap
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.models.protocols import Role
from meddistill.licences import LicenceTerms, Policy
from meddistill.teachers.card import TeacherCard

THUMBNAIL: Final = 112  # pixels of a side


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """One model in the tables of size, speed and licences; `name` is its name in the results.

    `parameters` counts weights of all towers; `megabytes` is 10^6 bytes as stored; `images_per_second` is by
    batch size, from uint8 raster to embedding, None where not measured. `input_size` is height x width in
    pixels. `source` must be no local path.
    """

    name: str
    role: Role
    source: str = ""
    licence: LicenceTerms | None = None
    parameters: int | None = None
    megabytes: float | None = None
    images_per_second: Mapping[int, float] | None = None
    input_size: tuple[int, int] | None = None
    embed_dim: int | None = None
    context_length: int | None = None
    modalities: tuple[str, ...] | None = None
    pretraining_data: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        card: TeacherCard,
        *,
        name: str,
        role: Role,
        megabytes: float | None = None,
        images_per_second: Mapping[int, float] | None = None,
    ) -> "ModelCard":
        """What the card of a model has, beside what was measured of it."""
        return cls(
            name=name,
            role=role,
            source=card.source,
            licence=card.licence,
            parameters=card.parameters,
            megabytes=megabytes,
            images_per_second=images_per_second,
            input_size=(card.input.height, card.input.width) if card.input else None,
            embed_dim=card.dims.get("image", card.dims.get("text")),
            context_length=card.context_length,
            modalities=card.modalities,
            pretraining_data=card.pretraining_data,
        )


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The log of one training stage: steps, and for every name a value a step (None where there is none).

    Names as in the training log: `loss`, `loss/<objective>`, `teacher/<id>/weight`, `learning_rate`, ...
    """

    stage: str
    method: str = ""
    steps: tuple[int, ...] = ()
    series: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Captions:
    """How much of the captions the student reads: `cut` of `captions` distinct ones lose their end."""

    captions: int
    context_length: int
    cut: int
    median: float
    longest: int


class Examples(Protocol):
    """Pictures, captions, questions and answers of table rows; to be given only where
    `report: {examples: true}` allows it.

    Tables are those of the suite, rows count from 1, as in `RetrievalExample` and the exhibits; a task says
    which columns of a table have questions and answers. Pictures are PNG or JPEG; `b""` and "" show nothing.
    """

    def picture(self, table: str, row: int, *, side: int = THUMBNAIL) -> bytes:
        """An image, padded about its centre to a square of `side` pixels."""

    def slide(self, table: str, places: AttentionMap) -> bytes:
        """The tiles of a map of attention in their places; fills the map's grid."""

    def caption(self, table: str, row: int) -> str:
        """A caption."""

    def question(self, task: str, table: str, row: int) -> str:
        """A question."""

    def answer(self, task: str, table: str, row: int) -> str:
        """An answer."""


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """What a report is made of. All text is shown as text, whatever it holds.

    `facts` are (label, value) pairs about the data and the feature store: counts, sizes, precision.
    `speed_conditions` says where speeds were measured ("CPU, 2 threads"). `student_terms` is the joined
    licence of the student. `command` repeats the run, where it is known. `created` is a date in words.
    """

    title: str
    subtitle: str = ""
    created: str = ""
    version: str = ""
    results: Results | None = None
    audit: Audit | None = None
    models: Sequence[ModelCard] = ()
    speed_conditions: str = ""
    curves: Sequence[Curves] = ()
    student_terms: LicenceTerms | None = None
    policy: Policy = "research"
    captions: Captions | None = None
    facts: Sequence[tuple[str, str]] = ()
    recipe_yaml: str = ""
    command: str | None = None
    warnings: Sequence[str] = ()
    examples: Examples | None = None
