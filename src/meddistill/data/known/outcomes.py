"""Clinical tables of TCGA patients, as four places hand them out, in one form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meddistill.data.known.draft import Row
from meddistill.data.known.source import read_rows
from meddistill.errors import TableError

_DAYS_A_MONTH: Final = 365.25 / 12
_BARCODE: Final = 12  # TCGA-XX-XXXX: project, site, participant
_DEAD: Final = {"1", "1.0", "dead", "deceased", "1:deceased", "true"}
_ALIVE: Final = {"0", "0.0", "alive", "living", "0:living", "false"}


@dataclass(frozen=True, kw_only=True)
class _Form:
    """Columns of one kind of clinical table; `outcome` gives months and event of a row, or None."""

    name: str
    patient: str
    needed: tuple[str, ...]
    outcome: Callable[[Row], tuple[float, int] | None]
    project: tuple[str, ...] = ()
    age: tuple[str, ...] = ()
    sex: tuple[str, ...] = ()

    def fits(self, row: Row) -> bool:
        """Whether a table with such a row is of this kind."""
        return {self.patient, *self.needed} <= set(row)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _event(cell: str) -> int | None:
    word = cell.strip().lower()
    return 1 if word in _DEAD else 0 if word in _ALIVE else None


def _stated(months: float | None, event: int | None) -> tuple[float, int] | None:
    return None if months is None or event is None else (months, event)


def _censored(row: Row) -> tuple[float, int] | None:
    """MCAT, PORPOISE and later code: `censorship` is 1 where the patient was alive."""
    event = _event(row["censorship"])
    return _stated(_number(row["survival_months"]), None if event is None else 1 - event)


def _resource(row: Row) -> tuple[float, int] | None:
    """TCGA-CDR (Liu et al. 2018): overall survival in days."""
    days = _number(row["OS.time"])
    return _stated(None if days is None else days / _DAYS_A_MONTH, _event(row["OS"]))


def _cbioportal(row: Row) -> tuple[float, int] | None:
    return _stated(_number(row["OS_MONTHS"]), _event(row["OS_STATUS"]))


def _commons(row: Row) -> tuple[float, int] | None:
    """The Genomic Data Commons' `clinical.tsv`, in days."""
    event = _event(row["vital_status"])
    days = _number(row["days_to_death" if event else "days_to_last_follow_up"])
    return _stated(None if days is None else days / _DAYS_A_MONTH, event)


_FORMS: Final = (
    _Form(
        name="case_id, survival_months, censorship",
        patient="case_id",
        needed=("survival_months", "censorship"),
        outcome=_censored,
        project=("oncotree_code",),
        age=("age",),
        sex=("is_female",),
    ),
    _Form(
        name="TCGA-CDR",
        patient="bcr_patient_barcode",
        needed=("OS", "OS.time"),
        outcome=_resource,
        project=("type",),
        age=("age_at_initial_pathologic_diagnosis",),
        sex=("gender",),
    ),
    _Form(
        name="cBioPortal",
        patient="PATIENT_ID",
        needed=("OS_MONTHS", "OS_STATUS"),
        outcome=_cbioportal,
        project=("CANCER_TYPE_ACRONYM", "SUBTYPE"),
        age=("AGE",),
        sex=("SEX",),
    ),
    _Form(
        name="Genomic Data Commons",
        patient="case_submitter_id",
        needed=("vital_status", "days_to_death", "days_to_last_follow_up"),
        outcome=_commons,
        project=("project_id",),
        age=("age_at_index",),
        sex=("gender",),
    ),
)


def patient_of(barcode: str) -> str:
    """The participant of a TCGA barcode of any length, by its first twelve characters."""
    return barcode.strip()[:_BARCODE].upper()


def site_of(barcode: str) -> str:
    """The tissue source site of a TCGA barcode: the two characters after `TCGA-`; one site, one study."""
    return barcode.strip()[5:7].upper()


def is_clinical(path: Path) -> bool:
    """Whether a file is a clinical table of a kind that is read here."""
    try:
        rows = read_rows(path)
    except TableError:
        return False
    return bool(rows) and any(form.fits(rows[0]) for form in _FORMS)


def read_outcomes(path: Path) -> Mapping[str, Row]:
    """Patient → time_months, event (1: died), project, age, sex; blank where not stated.

    A patient whose time or vital status is missing has blanks for both. Raises TableError for a table of
    another kind, and for patients whose rows contradict one another.
    """
    rows = read_rows(path)
    form = next((form for form in _FORMS if rows and form.fits(rows[0])), None)
    if form is None:
        names = "; ".join(form.name for form in _FORMS)
        rule = f"the table must be a clinical table of a known kind ({names}); got other columns."
        raise TableError(str(path), [rule])
    outcomes: dict[str, Row] = {}
    contradicted = 0
    for row in rows:
        own = _outcome(form, row)
        known = outcomes.setdefault(patient_of(row[form.patient]), own)
        contradicted += (known["time_months"], known["event"]) != (own["time_months"], own["event"])
    if contradicted:
        rule = f"a patient must have one outcome; {contradicted} rows state another than a row before."
        raise TableError(str(path), [rule])
    return outcomes


def _outcome(form: _Form, row: Row) -> Row:
    stated = form.outcome(row)
    months, event = ("", "") if stated is None else (f"{stated[0]:.6g}", str(stated[1]))

    def first(columns: tuple[str, ...]) -> str:
        return next((row[name] for name in columns if row.get(name)), "")

    sex = first(form.sex).lower()
    named = {"1": "female", "1.0": "female", "0": "male", "0.0": "male"}
    age = first(form.age)
    return {
        "time_months": months,
        "event": event,
        "project": first(form.project).upper(),
        "age": age if _number(age) is not None else "",
        "sex": named.get(sex, sex) if form.sex else "",
    }
