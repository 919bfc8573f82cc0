"""TCGA slides: stored features by CLAM or TRIDENT, and clinical tables of their patients."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from meddistill.data.known.draft import SPLITS, Draft, DraftTable, Entry, Row, by_split
from meddistill.data.known.outcomes import is_clinical, patient_of, read_outcomes, site_of
from meddistill.data.known.repeats import drawn_split
from meddistill.data.known.source import Source
from meddistill.data.known.tcga_survival import DATASET, NAME, survival
from meddistill.errors import TableError

_PICTURES: Final = ("thumbnails", "contours", "masks", "stitches")
_KINDS: Final = (".jpg", ".jpeg", ".png")
_TABLES: Final = (".csv", ".tsv", ".txt")


def draft(source: Source) -> Draft:
    """A row a slide: its features, its picture, its patient with outcome and project.

    The patient is the first twelve characters of the slide's barcode; one may have several slides, which stay
    in one split. A slide is a bag, as its features are one file. Patients are drawn into 70/10/20 by a hash
    of their id, for diagnosis between projects. Survival is cross-validated and takes all patients: a task a
    project, and one of all with `strata`, for pooled patients would be told apart by their cancer. Sites (the
    tissue source site of a barcode) stay in one fold. A suite's tables are of images: without a picture a
    slide (`thumbnails/` of TRIDENT, `masks/` of CLAM) the table alone is written.
    """
    features = _features(source)
    clinical = _clinical(source)
    pictures = _pictures(source)
    notes: list[str] = []
    slides = sorted({slide for own in features.values() for slide in own})
    strangers = [slide for slide in slides if patient_of(slide) not in clinical]
    if len(strangers) == len(slides):
        rule = "the clinical table must hold patients of the slides; none of them is in it. Is it of TCGA?"
        raise TableError(source.subject, [rule])
    if strangers:
        notes.append(f"{len(strangers)} slides left out: their patients are in no clinical table")
    rows = [
        _row(slide, features=features, pictures=pictures, outcome=clinical[patient_of(slide)])
        for slide in slides
        if patient_of(slide) in clinical
    ]
    patients = len({row["patient"] for row in rows})
    notes.append(f"{len(rows)} slides of {patients} patients; stored features: {', '.join(features)}")
    made = Draft(notes=notes)
    roles = {"image": "image", "patient": "patient", "modality": "modality"}
    views = {**by_split(NAME, rows), NAME: {}} if all(row["image"] for row in rows) else {}
    if not views:
        notes.append("no picture a slide was found: the table is written, and no suite")
    made.tables.append(DraftTable(name=NAME, rows=rows, views=views, roles=roles))
    if views:
        stored = _stored(source, features, rows, notes)
        made.tasks += [*_diagnosis(rows, views, stored), *survival(rows, views, stored, notes)]
        if made.tasks:
            notes.append(
                "models see one picture a slide, stored features all its tiles: to compare models, cut tiles "
                "(`meddistill slides tile`) and give their table"
            )
    return made


def _features(source: Source) -> dict[str, dict[str, Path]]:
    """Folder of features → slide → file: every folder whose name begins with `features`, or `h5_files`."""
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(source.folder.rglob("*.h5")):
        folder = path.parent
        if folder.name.startswith("features") or folder.name == "h5_files":
            files[source.cell(folder)][path.stem] = path
    if not files:
        raise source.not_that_layout(["features_<model>/<slide>.h5 or h5_files/<slide>.h5"])
    return dict(files)


def _clinical(source: Source) -> Mapping[str, Row]:
    tables = [path for path in sorted(source.folder.iterdir()) if path.suffix.lower() in _TABLES]
    clinical = [path for path in tables if path.is_file() and is_clinical(path)]
    if not clinical:
        raise source.not_that_layout(["a clinical table (.csv, .tsv or .txt) beside its folders"])
    if len(clinical) > 1:
        names = ", ".join(path.name for path in clinical)
        raise TableError(source.subject, [f"there must be one clinical table; got {names}. Leave one."])
    return read_outcomes(clinical[0])


def _pictures(source: Source) -> dict[str, str]:
    """Slide → a picture of it, of the first kind of folder that has any."""
    for kind in _PICTURES:
        files = [path for path in sorted(source.folder.rglob(f"{kind}/*")) if path.suffix.lower() in _KINDS]
        if files:
            return {path.stem: source.cell(path) for path in files}
    return {}


def _row(
    slide: str, *, features: Mapping[str, Mapping[str, Path]], pictures: Mapping[str, str], outcome: Row
) -> Row:
    patient = patient_of(slide)
    return {
        "slide": slide,
        "image": pictures.get(slide, ""),
        "features": "|".join(folder for folder, own in features.items() if slide in own),
        "patient": patient,
        "site": site_of(slide),
        "label": outcome["project"],
        **outcome,
        "modality": "histology",
        "split": drawn_split(patient),
    }


def _diagnosis(
    rows: list[Row], views: Mapping[str, Mapping[str, str]], stored: Mapping[str, str]
) -> list[Entry]:
    """Which project a patient's slides are of, where there are several with patients in every split."""
    held = {split: {row["label"] for row in rows if row["split"] == split} for split in SPLITS}
    if len(held["train"] - {""}) < 2 or not held["test"] or "" in set().union(*held.values()):
        return []
    roles = {split: f"{NAME}_{split}" for split in SPLITS if f"{NAME}_{split}" in views}
    entry: Entry = {"name": f"{NAME}_diagnosis", "kind": "bag_classification", "dataset": list(DATASET)}
    return [{**entry, **roles, "bag": "slide", "label": "label", "stored": dict(stored)}]


def _stored(
    source: Source, features: Mapping[str, object], rows: Sequence[Row], notes: list[str]
) -> dict[str, str]:
    """Name of a model → its folder; folders without a file of every slide cannot be tested on them."""
    whole = [folder for folder in features if all(folder in row["features"].split("|") for row in rows)]
    if len(whole) < len(features):
        partial = ", ".join(folder for folder in features if folder not in whole)
        notes.append(f"stored features that lack slides are in no task: {partial}")
    names = Counter(_named(folder) for folder in whole)
    return {
        _named(folder) if names[_named(folder)] == 1 else re.sub(r"[^\w.-]", "_", folder): (
            f"{source.outside}/{folder}"
        )
        for folder in whole
    }


def _named(folder: str) -> str:
    """The model that made the features, of TRIDENT's `features_uni_v1`; otherwise the folder itself."""
    name = Path(folder).name
    return name.removeprefix("features_") if name.startswith("features_") else "stored"
