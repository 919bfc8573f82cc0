"""The audit of a store's teachers as one JSON file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from meddistill.evaluation.base.written import read_record
from meddistill.files import write_whole
from meddistill.signals import Tower
from meddistill.strict import Strict

AUDIT_FILE: Final = "audit.json"
VERSION: Final = 2
ENSEMBLE: Final = "ensemble"

Family = Literal["retrieval", "zero_shot", "modality"]


class AuditScore(Strict):
    """One teacher on one group of images.

    `modality` is "" for all. `value` is the mean recall of `retrieval` and the balanced accuracy of the
    other two; `low` and `high` bound its interval over images, `chance` is what guessing gives. `images` and
    `answers` are how many stood against how many captions or classes. `details` holds the single hit rates.
    """

    teacher: str
    family: Family
    modality: str
    value: float
    low: float | None
    high: float | None
    chance: float
    images: int
    answers: int
    details: Mapping[str, float] = {}


class Likeness(Strict):
    """Two teachers' spaces on the `n` images (or texts) that both are available for.

    `cka` as in `evaluation.agreement`; `neighbours` is the share of common members among the 10 nearest.
    """

    first: str
    second: str
    tower: Tower
    modality: str
    cka: float
    neighbours: float
    n: int


class Redundancy(Strict):
    """How much of one teacher's space the others hold.

    `nearest` is the most similar other teacher and `cka` that similarity; `explained` is the CKA with the
    best non-negative mixture of all others' similarities: 1 where they tell everything that it tells.
    """

    teacher: str
    tower: Tower
    nearest: str
    cka: float
    explained: float
    n: int


class LeaveOut(Strict):
    """What the ensemble of `of` teachers loses when one of them goes.

    `loss` is the ensemble's quality with the teacher minus that without it; below zero the ensemble is
    better off without. None where quality cannot be measured. `redundancy` is the mean of `explained` over
    towers, among these teachers. `tied` teachers lose no more than one standard error above the smallest
    loss; the most redundant of them is the one to go.
    """

    teacher: str
    of: int
    loss: float | None
    low: float | None
    high: float | None
    redundancy: float | None
    nearest: str | None
    tied: bool


class OffDiagonal(Strict):
    """How much of a derived teacher's similarities lies beside the pairs; see `pairing.off_diagonal_mass`.

    `chance` is the mass of embeddings that tell nothing apart, `scale` the factor before the cosines.
    """

    teacher: str
    by_pair: bool
    mass: float
    chance: float
    scale: float
    pairs: int


class TeacherFacts(Strict):
    """A teacher in the audit. `images` and `texts` are those of the audit that it is available for."""

    name: str
    dims: Mapping[str, int]
    modalities: tuple[str, ...] | None
    images: int
    texts: int


class Audit(Strict):
    """Everything that was found.

    `redundancy`, `ensemble` and all below it are of teachers that are not derived: a derived one cannot
    stay without its sources. `first_round` leaves out every teacher of the whole ensemble in turn. `order`
    is the order in which to drop them: after each one that goes, the losses of those that stay are measured
    anew; the last one stays. `quality` is the whole ensemble's. `rows` counts images, texts and pairs that
    were looked at, `held` those that the store holds.
    """

    version: Literal[2] = VERSION
    store: str
    seed: int
    resamples: int
    level: float
    held: Mapping[str, int]
    rows: Mapping[str, int]
    modalities: Mapping[str, int]
    teachers: tuple[TeacherFacts, ...]
    scores: tuple[AuditScore, ...] = ()
    ensemble: tuple[AuditScore, ...] = ()
    likeness: tuple[Likeness, ...] = ()
    redundancy: tuple[Redundancy, ...] = ()
    quality: float | None = None
    first_round: tuple[LeaveOut, ...] = ()
    order: tuple[LeaveOut, ...] = ()
    off_diagonal: tuple[OffDiagonal, ...] = ()
    rule: str
    notes: tuple[str, ...] = ()

    def score(self, teacher: str, family: Family, modality: str = "") -> AuditScore | None:
        """A teacher's score, if it has one."""
        wanted = (teacher, family, modality)
        return next((row for row in self.scores if (row.teacher, row.family, row.modality) == wanted), None)

    def alike(self, first: str, second: str, tower: Tower, modality: str = "") -> Likeness | None:
        """The likeness of two teachers, if both have that tower and enough common rows."""
        wanted = ({first, second}, tower, modality)
        rows = (row for row in self.likeness if ({row.first, row.second}, row.tower, row.modality) == wanted)
        return next(rows, None)

    def save(self, folder: Path) -> Path:
        """Write `audit.json` into a folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / AUDIT_FILE
        write_whole(path, self.model_dump_json(indent=1).encode())
        return path

    @classmethod
    def load(cls, folder: Path) -> "Audit":
        """Read `audit.json` of a folder. Raises UserError where it is absent or other than written."""
        path = folder / AUDIT_FILE
        return read_record(cls, path, what="an audit", maker="meddistill features audit")
