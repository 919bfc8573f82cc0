"""The feature store on disk: what its manifests say.

```
store/
├── manifest.json (+ manifest.copy.json)   what the rows are: `StoreManifest`
├── tables/images-0000.parquet (+ copy)    image_key, modality         one segment per time rows were added
│          texts-0000.parquet              text_key, role              (no text is stored)
│          pairs-0000.parquet              image_row, text_row        (images without a caption are in none)
└── teachers/<id>/manifest.json (+ copy)   what one teacher said: `TeacherManifest`
                  image-00000000.safetensors  text-…  patches-…  text_tokens-…   shards, named by first row
                  statistics.safetensors, availability.safetensors
```
A row's number is its place in the concatenated segments; it never changes. Shards never cross a segment's
border, so adding rows leaves finished shards as they are. A file exists when a manifest names it, and is
named after it is complete. Manifests hold no times and no machine names: the same input gives the same bytes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from meddistill.errors import StoreError
from meddistill.features.config import StoredPrecision
from meddistill.features.files import MANIFEST, MANIFEST_COPY, FileEntry, read_manifest
from meddistill.signals import Signal
from meddistill.strict import Strict
from meddistill.teachers.card import TeacherCard
from meddistill.tree_difference import tree_differences

FORMAT: Final = "meddistill-features"
VERSION: Final = 1
TABLES: Final = "tables"
TEACHERS: Final = "teachers"
STATISTICS: Final = "statistics.safetensors"
AVAILABILITY: Final = "availability.safetensors"

Table = Literal["images", "texts", "pairs"]
TextRole = Literal["caption", "bank"]
Span = tuple[int, int]

# What a teacher's manifest says of all its rows, and loses with any of them.
UNSUMMARIZED: Final[Mapping[str, None]] = {"statistics": None, "availability": None}

TeacherId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=100)]


class Piece(FileEntry):
    """A file that holds rows `start` to `stop` (exclusive) of a table or an output."""

    start: int = Field(ge=0)
    stop: int = Field(ge=0)


class Settings(Strict):
    """What every row of a store has in common; a store is used again only with equal settings.

    `decode`: the options that change pixels. `views`: how many views of each image are stored, view 0 to
    `views` - 1. `view_policy`: the policy of the views; None when only view 0, the whole image, is stored.
    """

    decode: dict[str, Any]
    views: int = Field(default=1, ge=1)
    view_policy: dict[str, Any] | None = None

    def difference(self, asked: Self) -> list[str]:
        """One line for each setting in which the store and what is asked for differ."""
        differences = tree_differences(self.model_dump(mode="json"), asked.model_dump(mode="json"))
        return [f"{each.place}: {each.old} in the store, {each.new} requested" for each in differences]


def _no_segments() -> dict[Table, tuple[Piece, ...]]:
    return {"images": (), "texts": (), "pairs": ()}


class StoreManifest(Strict):
    """The rows of a store. `segments` of each table follow one another without gaps."""

    format: Literal["meddistill-features"] = FORMAT
    version: Literal[1] = VERSION
    settings: Settings
    shard_rows: int = Field(gt=0)
    segments: dict[Table, tuple[Piece, ...]] = Field(default_factory=_no_segments)
    teachers: tuple[TeacherId, ...] = ()

    @model_validator(mode="after")
    def _segments_follow(self) -> Self:
        for table, pieces in self.segments.items():
            _require_consecutive(table, pieces)
        return self

    def rows(self, table: Table) -> int:
        """The number of rows of a table."""
        pieces = self.segments[table]
        return pieces[-1].stop if pieces else 0

    def spans(self, table: Table) -> list[Span]:
        """The row ranges of all shards over a table, in order."""
        return [
            (start, min(start + self.shard_rows, piece.stop))
            for piece in self.segments[table]
            for start in range(piece.start, piece.stop, self.shard_rows)
        ]


class OutputManifest(Strict):
    """One output of a teacher. `shape` is that of one view of one row; of one element when `ragged`.

    Arrays are `[rows, *shape]`, or `[rows, views, *shape]` for more than one view. `grid` is the height and
    width of a patch grid. `by_pair`: a row a pair of image and text, of a teacher that must see both.
    """

    shape: tuple[int, ...]
    dtype: StoredPrecision
    views: int = Field(default=1, ge=1)
    ragged: bool = False
    grid: tuple[int, int] | None = None
    by_pair: bool = False
    shards: tuple[Piece, ...] = ()

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one row (of one element when `ragged`)."""
        return self.shape if self.views == 1 else (self.views, *self.shape)

    def layout(self) -> dict[str, Any]:
        """What must be equal for shards of two extractions to stand side by side."""
        return self.model_dump(mode="json", exclude={"shards"})

    def missing(self, spans: Iterable[Span]) -> list[Span]:
        """The spans without a shard."""
        present = {(shard.start, shard.stop) for shard in self.shards}
        return [span for span in spans if span not in present]

    def with_shard(self, shard: Piece) -> "OutputManifest":
        """This output with one more shard."""
        shards = sorted((*self.shards, shard), key=lambda each: each.start)
        return self.model_copy(update={"shards": tuple(shards)})


class TeacherManifest(Strict):
    """What one teacher said. `card` carries its licence.

    `statistics` is absent until every row is there. `availability` names the agreement of image and text for
    the pairs `start` to `stop`, from which masks per row are made; absent for teachers of one embedding.
    """

    card: TeacherCard
    outputs: dict[Signal, OutputManifest]
    statistics: FileEntry | None = None
    availability: Piece | None = None

    @property
    def has_agreement(self) -> bool:
        """Whether image and text embeddings lie in one space, so that their cosine means something."""
        image, text = self.outputs.get("image"), self.outputs.get("text")
        there = image is not None and text is not None and image.shape == text.shape
        return there and not self.by_pair

    @property
    def by_pair(self) -> bool:
        """Whether it has a row a pair, of image and text alike: it knows what belongs together."""
        return any(output.by_pair for output in self.outputs.values())


AnyManifest = TypeVar("AnyManifest", StoreManifest, TeacherManifest)


def load_manifest(folder: Path, model: type[AnyManifest]) -> AnyManifest:
    """Read a folder's manifest.

    Raises
    ------
    StoreError
        If it is absent, damaged, or written by a version of the format that this one does not know.
    """
    return parse_manifest(folder, manifest_content(folder), model)


def manifest_content(folder: Path) -> bytes:
    """A folder's manifest as it was written; raises StoreError if it is absent or damaged."""
    content = read_manifest(folder / MANIFEST)
    if content is None:
        raise StoreError(_unreadable(folder))
    return content


def parse_manifest(folder: Path, content: bytes, model: type[AnyManifest]) -> AnyManifest:
    """A folder's manifest from its `content`; raises StoreError for a version that this one does not know."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        msg = (
            f"`{folder / MANIFEST}` must follow version {VERSION} of the format; got: "
            f"{error.errors()[0]['msg']} at {error.errors()[0]['loc']}. Use the MedDistill that wrote it."
        )
        raise StoreError(msg) from error


def remedy(store: Path) -> str:
    """What to do about damaged shards."""
    return f"Give {repair_of(store)} to drop damaged shards, then extract again: only those are made anew."


def repair_of(store: Path) -> str:
    """The command that drops what is damaged, or restores it."""
    return f"`meddistill features verify {store} --repair`"


def _unreadable(folder: Path) -> str:
    if not (folder / MANIFEST).is_file() and not (folder / MANIFEST_COPY).is_file():
        return (
            f"`{folder}` must be a feature store; it has no {MANIFEST}. Make one with `meddistill extract`."
        )
    store = folder.parent.parent if folder.parent.name == TEACHERS else folder
    return (
        f"`{folder / MANIFEST}` must be as it was written; it is damaged (its hash is another). "
        f"{repair_of(store)} restores it from its copy."
    )


def _require_consecutive(name: str, pieces: tuple[Piece, ...]) -> None:
    expected = 0
    for piece in pieces:
        if piece.start != expected or piece.stop < piece.start:
            msg = f"`{name}` must follow without gaps; {piece.file} starts at {piece.start}, not {expected}."
            raise ValueError(msg)
        expected = piece.stop
