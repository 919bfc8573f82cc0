"""SLAKE 1.0: questions in English and Chinese on radiology images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.questions import question_draft
from meddistill.data.known.source import Source

_FILES: Final = {
    "train": ("train.json",),
    "validation": ("validate.json", "validation.json"),
    "test": ("test.json",),
}
_NEEDED: Final = ("img_name", "question", "answer", "q_lang", "modality", "answer_type", "content_type")
# Its images come from these, says its paper.
_DATASET: Final = ("SLAKE", "MSD", "CHAOS", "ChestX-ray8")
_MODALITY: Final = {"ct": "ct", "mri": "mri", "x-ray": "xray"}
_CANDIDATES: Final = 90  # for each of 1,061 published test questions in English


def draft(source: Source) -> Draft:
    """All questions in the published split, which is by image; the tasks take the English ones.

    The language stands in the column `language` (en, zh); an image counts as a patient.
    """
    notes: list[str] = []
    top = source.first("Slake1.0", "SLAKE1.0")
    base = "" if top is None else f"{top.name}/"
    paths = {split: source.first(*(f"{base}{name}" for name in names)) for split, names in _FILES.items()}
    missing = [_FILES[split][0] for split, path in paths.items() if path is None]
    if source.first(f"{base}imgs") is None:
        missing.append("imgs/xmlab<number>/source.jpg")
    if missing:
        raise source.not_that_layout(missing)
    rows = [
        _row(record, f"{base}imgs", split)
        for split, path in paths.items()
        if path is not None
        for record in source.list_of(path, _NEEDED)
    ]
    made = question_draft(
        "slake", source.keep_there(rows, notes=notes), dataset=_DATASET, notes=notes, candidates=_CANDIDATES
    )
    other = sum(row["language"] != "en" for row in made.tables[0].rows)
    notes.append(f"{other:,} questions are not in English: they stand in the table, no task takes them")
    for view in made.tables[0].views.values():
        view["language"] = "en"
    return made


def _row(record: Mapping[str, Any], images: str, split: str) -> Row:
    name = str(record["img_name"])
    return {
        "image": f"{images}/{name}",
        "question": " ".join(str(record["question"]).split()),
        "answer": " ".join(str(record["answer"]).split()),
        "answer_type": str(record["answer_type"]).strip().lower(),
        "question_type": str(record["content_type"]).strip(),
        "language": str(record["q_lang"]).strip().lower(),
        "location": str(record.get("location", "")).strip(),
        "modality": _MODALITY.get(str(record["modality"]).strip().lower(), ""),
        "patient": Path(name).parts[0],
        "split": split,
    }
