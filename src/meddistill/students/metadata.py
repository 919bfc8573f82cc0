"""`meddistill.json`: what a student folder says of the student's origin; importable without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

from pydantic import ValidationError

from meddistill.data.datasets import union_names
from meddistill.errors import CheckpointError
from meddistill.imaging.geometry import InputSpec
from meddistill.licences import LicenceTerms, join
from meddistill.strict import Strict
from meddistill.students.config import StudentConfig

METADATA_FILE: Final = "meddistill.json"
INITIAL_WEIGHTS: Final = "initial weights"


class TeacherCard(Protocol):
    """The part of a teacher's card that a student remembers."""

    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def weights_sha256(self) -> str: ...
    @property
    def licence(self) -> LicenceTerms: ...
    @property
    def pretraining_data(self) -> tuple[str, ...]: ...


class TeacherCredit(Strict):
    """A teacher whose outputs the student was trained on."""

    id: str
    kind: str
    source: str
    revision: str | None = None
    weights_sha256: str
    licence: LicenceTerms
    pretraining_data: tuple[str, ...] = ()

    @classmethod
    def of(cls, card: TeacherCard) -> "TeacherCredit":
        """The credit that a card deserves."""
        return cls(
            id=card.id,
            kind=card.kind,
            source=card.source,
            revision=card.revision,
            weights_sha256=card.weights_sha256,
            licence=card.licence,
            pretraining_data=card.pretraining_data,
        )


class Provenance(Strict):
    """Where a student comes from: everything whose licence it inherits.

    `text_trained`: whether its text tower started from weights or had captions to learn from. Otherwise only
    its image embeddings mean anything.
    """

    name: str = "student"
    text_trained: bool = True
    teachers: tuple[TeacherCredit, ...] = ()
    initial_weights: LicenceTerms | None = None
    data: Mapping[str, LicenceTerms] = {}

    @property
    def components(self) -> dict[str, LicenceTerms]:
        """Every source of terms, by the name that a message should give it."""
        named = {credit.id: credit.licence for credit in self.teachers}
        if self.initial_weights is not None:
            named[INITIAL_WEIGHTS] = self.initial_weights
        return {**named, **self.data}

    @property
    def pretraining_data(self) -> tuple[str, ...]:
        """The data sets that the student learnt from, by itself or through a teacher."""
        return union_names([self.data, *(credit.pretraining_data for credit in self.teachers)])

    @property
    def licence(self) -> LicenceTerms:
        """The terms that the student inherits: the strictest of all."""
        return join(self.components.values())


class FileRecord(Strict):
    """A file's sha256 (hex) and its size in bytes."""

    sha256: str
    bytes: int


class StudentMetadata(Strict):
    """The whole of `meddistill.json`.

    `tokenizer` is `clip` for the byte-pair tokenizer of CLIP that open_clip carries, `hf` for files in the
    folder. `context_length` in tokens. `files` lists every other file of the folder.
    """

    format: Literal["meddistill-student"] = "meddistill-student"
    version: Literal[1] = 1
    kind: Literal["dual_encoder"] = "dual_encoder"
    created_with: str
    embed_dim: int
    context_length: int
    tokenizer: Literal["clip", "hf"]
    input: InputSpec
    provenance: Provenance
    licence: LicenceTerms
    config: StudentConfig | None
    files: Mapping[str, FileRecord]


def read_metadata(folder: Path) -> StudentMetadata:
    """Read a student folder's `meddistill.json`.

    Raises
    ------
    CheckpointError
        If the file is absent, is no JSON, or breaks its schema.
    """
    path = folder / METADATA_FILE
    if not path.is_file():
        msg = f"A student folder must hold {METADATA_FILE}; got {folder}. Name a folder that training wrote."
        raise CheckpointError(msg)
    try:
        return StudentMetadata.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        msg = f"`{path}` must follow its schema; got {where}: {first['msg']}. Write the student again."
        raise CheckpointError(msg) from error
