"""HAM10000: dermatoscopic images of seven kinds of pigmented lesions."""

from typing import Final

from meddistill.data.known import tasks
from meddistill.data.known.draft import Draft, DraftTable, Row, by_split
from meddistill.data.known.repeats import drawn_split
from meddistill.data.known.source import Source, check_columns, read_rows
from meddistill.errors import TableError

_TABLES: Final = ("HAM10000_metadata.csv", "HAM10000_metadata")
_FOLDERS: Final = ("HAM10000_images_part_1", "HAM10000_images_part_2", "HAM10000_images", "images", "")
_CLASSES: Final = {
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesion",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevus",
    "vasc": "vascular lesion",
}
_NAME: Final = "ham10000"
_DATASET: Final = ("HAM10000",)


def draft(source: Source) -> Draft:
    """All images; a lesion, of which there may be several images, counts as a patient.

    No split of these 10,015 images is published: lesions are drawn into 70/10/20 by a hash of their id.
    """
    path = source.need(f"`{_TABLES[0]}`", *_TABLES)
    records = read_rows(path)
    check_columns(path, records, ("lesion_id", "image_id", "dx"))
    unknown = sorted({record["dx"] for record in records} - set(_CLASSES))
    if unknown:
        rule = f"`dx` must be one of {', '.join(_CLASSES)}; got {', '.join(unknown[:8])}."
        raise TableError(str(path), [rule])
    notes = ["no split is published: lesions are drawn into 70/10/20 by a hash of their id, seed 0"]
    rows = source.keep_there([_row(source, record) for record in records], notes=notes)
    views = by_split(_NAME, rows)
    roles = {"image": "image", "patient": "patient", "modality": "modality"}
    made = Draft(notes=notes)
    made.tables.append(DraftTable(name=_NAME, rows=rows, views=views, roles=roles))
    if f"{_NAME}_test" in views:
        prompted = tasks.zero_shot(_NAME, f"{_NAME}_test", _CLASSES, modality="dermatology", dataset=_DATASET)
        made.tasks = [prompted, *tasks.probes(_NAME, views, dataset=_DATASET)]
    return made


def _row(source: Source, record: Row) -> Row:
    name = f"{record['image_id']}.jpg"
    folder = next((each for each in _FOLDERS if (source.folder / each / name).is_file()), _FOLDERS[0])
    return {
        "image": f"{folder}/{name}" if folder else name,
        "label": record["dx"],
        "patient": record["lesion_id"],
        "sex": record.get("sex", ""),
        "age": record.get("age", ""),
        "modality": "dermatology",
        "split": drawn_split(record["lesion_id"]),
    }
