"""What a table of samples is, in a recipe's words; loads no torch."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from meddistill.imaging.options import DecodeOptions
from meddistill.strict import StrictSettings

OnError = Literal["raise", "skip"]


class TextTable(StrictSettings):
    """A table of texts, one a row."""

    table: Path
    """A CSV (UTF-8; tab-separated if it ends in .tsv), a Parquet file, or a folder that Hugging Face
    `datasets` saved to disk; relative to the file that names it.
    """
    text: str = Field(default="text", min_length=1)
    """Its column of texts."""


class PatientTable(StrictSettings):
    """A table with one row for each patient; what an image table lacks is looked up there."""

    table: Path
    """A CSV (UTF-8; tab-separated if it ends in .tsv) or a Parquet file."""
    patient: str = Field(default="patient", min_length=1)
    """Its column of patients, every one once."""


class TableConfig(StrictSettings):
    """A table and the names of its columns.

    Paths are relative to the file that names the table (recipe or suite).
    """

    blank_captions: ClassVar[bool] = False

    table: Path
    """A CSV (UTF-8; tab-separated if it ends in .tsv), a Parquet file, a folder that Hugging Face `datasets`
    saved to disk, or tar shards in the WebDataset format: one, a folder of them, or a pattern such as
    `train-{000..099}.tar` or `*.tar`.
    """
    root: Path | None = None
    """The folder at which image paths start and which they must not leave; by default the table's folder."""
    unpack: Path | None = None
    """A folder for the images that the table itself embeds; they are written there as files, once."""
    index: Path | None = None
    """A folder that remembers where the files of tar shards begin; without it they are looked through at
    every start. It holds their names, and is made anew for a shard that changed.
    """
    image: str = Field(default="image", min_length=1)
    """Column of image paths, or of embedded images; of tar shards, `image` is a sample's one image."""
    text: str | None = Field(default=None, min_length=1)
    """Column of captions."""
    id: str | None = Field(default=None, min_length=1)
    """Column of unique row ids; by default the row's number."""
    patient: str | None = Field(default=None, min_length=1)
    """Column of patients. Without it every image counts as a patient of its own."""
    patients: PatientTable | None = None
    """A table of patients (age, outcome): its columns count as columns of this table, joined by patient."""
    modality: str | None = Field(default=None, min_length=1)
    """Column of modalities, held against the teachers' `modalities`."""
    frame: str | None = Field(default=None, min_length=1)
    """Column that selects a DICOM frame, a TIFF page or a volume of a 4-D NIfTI, from 0; blank: the default.
    """
    axis: str | None = Field(default=None, min_length=1)
    """Column that selects a NIfTI axis: 0 sagittal, 1 coronal, 2 axial; blank: the default."""
    slice: str | None = Field(default=None, min_length=1)
    """Column that selects a NIfTI slice along the axis, from 0; blank: the middle one."""
    where: dict[str, str | list[str]] = Field(default={})
    """Column → the value, or one of the values, that a row must have to be kept."""
    on_error: OnError = "raise"
    """`raise` reports all bad rows at once and stops; `skip` drops them, and counts and reports them."""
    decode: DecodeOptions = DecodeOptions()
    """How intensities become eight bits."""

    @model_validator(mode="after")
    def _patients_are_joined_by_patient(self) -> "TableConfig":
        if self.patients is not None and self.patient is None:
            msg = "`patient` must name the column by which `patients` is joined; got none."
            raise ValueError(msg)
        return self

    @property
    def named_columns(self) -> dict[str, str]:
        """Field of this model → column it names, for every column that is read by role."""
        roles = ("image", "text", "id", "patient", "modality", "frame", "axis", "slice")
        named = {role: getattr(self, role) for role in roles if getattr(self, role) is not None}
        return named | {f"where.{column}": column for column in self.where}


class TrainingTableConfig(TableConfig):
    """A table and the names of its columns.

    Paths are relative to the file that names the table (recipe or suite). In a table to learn from, a row
    whose caption is blank has none: its image is learnt from alone. In one of a suite every caption must be
    there.
    """

    blank_captions: ClassVar[bool] = True
