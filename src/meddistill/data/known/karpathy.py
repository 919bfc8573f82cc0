"""Photographs with five captions each, in the splits of Karpathy and Fei-Fei (CVPR 2015): one JSON a set.

`{"images": [{"filename", "split", "imgid", "sentences": [{"raw"}, …]}, …]}`; MSCOCO's images have a
`filepath` (`train2014`, `val2014`) and a `cocoid` besides. The split `restval` of MSCOCO is trained on, as is
usual.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from meddistill.data.known import tasks
from meddistill.data.known.captions import caption_draft
from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.source import Source, check_columns
from meddistill.errors import TableError
from meddistill.file_kinds import why_not_json

_SPLITS: Final = {"train": "train", "restval": "train", "val": "validation", "test": "test"}
_NEEDED: Final = ("filename", "split", "imgid", "sentences")
# Of images with six or seven captions the first five are tested (VSE++, and whoever compares with it).
_TEST_CAPTIONS: Final = 5


def karpathy_draft(
    source: Source, file: str, *, images: Sequence[str], dataset: tuple[str, ...], folds: int = 0
) -> Draft:
    """Pairs of image and caption, a row a caption; an image stands for a patient.

    `file` is the JSON, `images` are where the folder of images may lie. `folds`: of the test images, taken in
    the file's order, as many galleries of equal size besides the whole, whose mean papers report (MSCOCO's
    five times 1k).
    """
    name, path = source.name, source.need(file, file)
    place = source.cell(source.need(f"the folder of images, `{images[0]}`", *images))
    records = _images(path)
    tested = [record["imgid"] for record in records if record["split"] == "test"]
    fold = (
        {image: str(1 + order * folds // len(tested)) for order, image in enumerate(tested)} if folds else {}
    )
    notes = ["no patients are known: intervals count an image, with all its captions, as one"]
    rows = [
        {**row, "fold": fold.get(record["imgid"], "")} if folds else row
        for record in records
        for row in _rows(record, "" if place == "." else f"{place}/")
    ]
    more = sum(
        max(0, len(each["sentences"]) - _TEST_CAPTIONS)
        for each in records
        if each["split"] in ("val", "test")
    )
    if more:
        notes.append(
            f"{more} captions beyond the first {_TEST_CAPTIONS} of an image left out of validation and test"
        )
    made = caption_draft(
        name, source.keep_there(rows, notes=notes), dataset=dataset, notes=notes, patients=True
    )
    (table,) = made.tables
    for number in sorted(set(fold.values())):
        table.views[f"{name}_test_{number}"] = {"split": "test", "fold": number}
        part = tasks.retrieval(f"{name}_test_{number}", f"{name}_test_{number}", dataset=dataset)
        made.tasks.append({**part, "include_in_mean": False})
    return made


def _rows(record: dict[str, Any], folder: str) -> list[Row]:
    split = _SPLITS[record["split"]]
    inside = f"{record['filepath']}/" if record.get("filepath") else ""
    sentences = record["sentences"] if split == "train" else record["sentences"][:_TEST_CAPTIONS]
    return [
        {
            "image": f"{folder}{inside}{record['filename']}",
            "text": " ".join(str(sentence["raw"]).split()),
            "patient": str(record.get("cocoid", record["imgid"])),
            "modality": "photograph",
            "split": split,
        }
        for sentence in sentences
    ]


def _images(path: Path) -> list[dict[str, Any]]:
    """The records of the file; raises TableError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TableError(str(path), [f"the file must be JSON; got {why_not_json(path, error)}"]) from None
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(each, dict) for each in images):
        rule = "the file must hold `images`, a list of records, as Karpathy's splits do; it does not."
        raise TableError(str(path), [f"{rule} Take the file of his page."])
    check_columns(path, images, _NEEDED)
    unknown = sorted({str(each["split"]) for each in images} - set(_SPLITS))
    if unknown:
        rule = f"`split` must be one of {', '.join(_SPLITS)}; got {', '.join(unknown)}."
        raise TableError(str(path), [f"{rule} Take the file of his page."])
    return images
