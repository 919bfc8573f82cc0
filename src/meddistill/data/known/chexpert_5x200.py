"""CheXpert-5x200: a thousand frontal chest X-rays of CheXpert, each with exactly one of five findings."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from meddistill.data.known import tasks
from meddistill.data.known.draft import Draft, DraftTable, Row
from meddistill.data.known.source import Source, check_columns, read_rows
from meddistill.errors import TableError

_TABLE: Final = "chexpert_5x200.csv"
_CLASSES: Final = {
    "Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Edema": "pulmonary edema",
    "Pleural Effusion": "pleural effusion",
}
_VERSIONS: Final = ("CheXpert-v1.0", "CheXpert-v1.0-small")
_DATASET: Final = ("CheXpert",)
_NAME: Final = "chexpert_5x200"


def draft(source: Source) -> Draft:
    """The table of GLoRIA's authors over CheXpert's own folders; all rows are evaluated, zero-shot.

    Raises TableError for rows with no finding or several: the five columns must say exactly one. Where the
    table has a column `Report Impression`, its texts are a retrieval task too.
    """
    path = source.need(f"`{_TABLE}`", _TABLE)
    records = read_rows(path)
    check_columns(path, records, ("Path", *_CLASSES))
    labels = [[name for name in _CLASSES if _positive(record[name])] for record in records]
    wrong = [number for number, own in enumerate(labels, start=1) if len(own) != 1]
    if wrong:
        rule = f"rows must have exactly one of {', '.join(_CLASSES)}; rows {wrong[:8]} have none or several."
        raise TableError(str(path), [rule])
    notes = [f"a benchmark of {len(records):,} images; the published table has 1,000"]
    folders = _folders(source, records)
    rows = source.keep_there(
        (_row(folders, record, own[0]) for record, own in zip(records, labels, strict=True)), notes=notes
    )
    roles = {"image": "image", "patient": "patient", "modality": "modality"}
    made = Draft(notes=notes)
    if all(row["text"] for row in rows):
        roles["text"] = "text"
        made.tasks.append(tasks.retrieval(_NAME, _NAME, dataset=_DATASET))
    made.tables.append(DraftTable(name=_NAME, rows=rows, views={_NAME: {}}, roles=roles))
    prompted = tasks.zero_shot(_NAME, _NAME, _CLASSES, modality="xray", dataset=_DATASET)
    made.tasks.insert(0, prompted)
    return made


def _positive(cell: str) -> bool:
    return cell in {"1", "1.0"}


def _folders(source: Source, records: list[Row]) -> str:
    """What the first part of every `Path` is called here: full size, small, or nothing."""
    first = PurePosixPath(records[0]["Path"])
    rest = PurePosixPath(*first.parts[1:])
    for top in (*_VERSIONS, "CheXpert", ""):
        if (source.folder / top / rest).is_file():
            return top
    return first.parts[0]


def _row(top: str, record: Mapping[str, str], label: str) -> Row:
    parts = PurePosixPath(record["Path"]).parts
    patient = next((part for part in parts if part.startswith("patient")), "")
    text = record.get("Report Impression", "")
    return {
        "image": PurePosixPath(top, *parts[1:]).as_posix(),
        "label": label,
        "text": " ".join(text.split()),
        "patient": patient or PurePosixPath(record["Path"]).stem,
        "modality": "xray",
        "split": "test",
    }
