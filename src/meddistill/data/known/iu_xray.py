"""The Indiana University chest X-rays (Open-i) as Kaggle hands them out: two tables and PNG files."""

from typing import Final

from meddistill.data.known.captions import caption_draft
from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.source import Source, check_columns, read_rows

_REPORTS, _PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"
_IMAGES: Final = ("images/images_normalized", "images_normalized", "images")


def draft(source: Source) -> Draft:
    """Frontal images with findings and impression, all of them to be evaluated: no split is published.

    A report (`uid`) is a patient. Lateral images are left out, and counted.
    """
    notes: list[str] = []
    missing = [name for name in (_REPORTS, _PROJECTIONS) if source.first(name) is None]
    missing += [_IMAGES[0]] if source.first(*_IMAGES) is None else []
    if missing:
        raise source.not_that_layout(missing)
    images = source.cell(source.need(_IMAGES[0], *_IMAGES))
    reports, pictures = source.folder / _REPORTS, source.folder / _PROJECTIONS
    texts = {}
    records = read_rows(reports)
    check_columns(reports, records, ("uid", "findings", "impression"))
    for record in records:
        texts[record["uid"]] = " ".join(f"{record['findings']} {record['impression']}".split())
    records = read_rows(pictures)
    check_columns(pictures, records, ("uid", "filename", "projection"))
    frontal = [each for each in records if each["projection"].lower() == "frontal"]
    notes.append(f"{len(records) - len(frontal)} images that are not frontal left out")
    rows: list[Row] = [
        {
            "image": f"{images}/{record['filename']}",
            "text": texts.get(record["uid"], ""),
            "patient": record["uid"],
            "modality": "xray",
            "split": "test",
        }
        for record in frontal
    ]
    kept = source.keep_there(rows, notes=notes)
    return caption_draft("iu_xray", kept, dataset=("OpenI",), notes=notes, patients=True)
