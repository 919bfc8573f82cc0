"""Config of the survival task; loads no torch."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from meddistill.evaluation.base.task_config import Name, TaskConfig, distinct

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# Of features whose variances sum to one, with the likelihood divided by the events (see `fitting.py`).
DEFAULT_PENALTIES: Final = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


class SurvivalConfig(TaskConfig):
    """How well frozen image embeddings predict whose event comes earlier, cross-validated over patients."""

    kind: Literal["survival"]
    """How well frozen image embeddings predict whose event comes earlier, cross-validated over patients."""
    table: str
    """The table of images; a patient may have several. Columns of patients may stand in its `patients`."""
    time: str = "time"
    """Column of follow-up times from 0: until the event, or until nothing more is known."""
    event: str = "event"
    """Column that is 1 where the event was seen at `time`, 0 where follow-up ended (censored)."""
    unit: str = Field(default="months", min_length=1, max_length=32)
    """Unit of `time`, for axes and tables."""
    clinical: tuple[str, ...] = ()
    """Columns of clinical data, numbers or categories, blanks allowed; for a baseline without images, and
    for a second setting of every model, with images and these columns together.
    """
    pooling: Literal["mean", "max"] = "mean"
    """How a patient's images, each of length one, become one vector."""
    head: Literal["cox", "discrete"] = "cox"
    """Proportional hazards, or logistic hazards in `bins` stretches of time."""
    ties: Literal["efron", "breslow"] = "efron"
    """How `cox` counts events at the same time."""
    bins: int = Field(default=4, ge=2, le=50)
    """Stretches of time of `discrete`, with equally many events in each."""
    components: int | None = Field(default=None, ge=1)
    """Principal components that are kept; by default half the events of the training fold, at most 16."""
    penalties: list[Positive] = Field(default=list(DEFAULT_PENALTIES), min_length=1)
    """Ridge penalties to choose from, inside the training fold."""
    folds: int = Field(default=5, ge=2, le=50)
    """Parts of the patients, each ranked by a head that was fitted on the others."""
    inner_folds: int = Field(default=5, ge=2, le=50)
    """Parts of a training fold that choose the penalty."""
    repeats: int = Field(default=5, ge=1, le=100)
    """Divisions into folds; numbers are means over them."""
    seed: int = Field(default=42, ge=0, lt=2**31)
    """Of the divisions and of the random features."""
    stored: dict[Name, Path] = Field(default={})
    """Name → a folder of stored features, one `.h5` file a slide, with `features` [tiles, width] as CLAM and
    TRIDENT write it; means over tiles, then over a patient's slides, whatever `pooling` says. Compared with
    the models on the same patients and folds, under the name. Relative to the suite file.
    """
    slide: str | None = None
    """Column of slides, which name the files of `stored`; by default a patient is one slide."""
    strata: str | None = None
    """Column of cohorts, such as the project of TCGA: patients are compared inside their cohort only, and
    each has a baseline hazard and a censoring of its own; coefficients are common. Without it a model that
    knows a patient's cohort alone scores well where prognosis differs between cohorts.
    """
    site: str | None = None
    """Column of sites: all patients of a site are in one fold, of inner folds too."""
    horizons: tuple[Positive, ...] = ()
    """Times of the time-dependent AUC, inside every training fold's follow-up; by default the quartiles of
    the times of events. The Brier score is integrated from the first to the last.
    """

    @field_validator("horizons")
    @classmethod
    def _distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(distinct(value, "horizons")))

    @field_validator("clinical")
    @classmethod
    def _columns_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            msg = f"`clinical` must name every column once; got {list(value)}."
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _outcome_not_known(self) -> "SurvivalConfig":
        told = sorted({self.time, self.event}.intersection(self.clinical))
        if told:
            msg = f"`clinical` must not hold the outcome itself; got {', '.join(told)}."
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _slides_of_files(self) -> "SurvivalConfig":
        if self.slide is not None and not self.stored:
            msg = f"`slide` names files of `stored`, which must be given; got `slide: {self.slide}` alone."
            raise ValueError(msg)
        return self

    def own_columns(self) -> tuple[str, ...]:
        return (*self.patient_columns(), *(() if self.slide is None else (self.slide,)))

    def patient_columns(self) -> tuple[str, ...]:
        """Those that have one value in all rows of a patient."""
        named = [name for name in (self.strata, self.site) if name is not None]
        return (self.time, self.event, *self.clinical, *named)
