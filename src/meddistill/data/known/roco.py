"""ROCO and ROCOv2: radiology figures of open-access articles with their captions."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from meddistill.data.known import tasks
from meddistill.data.known.captions import caption_draft
from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.source import Source, check_columns, read_rows

# Concepts of the Unified Medical Language System that name how an image was made.
_MODALITY: Final = {
    "C1306645": "xray",
    "C0040405": "ct",
    "C0024485": "mri",
    "C0041618": "ultrasound",
    "C0032743": "pet",
    "C0002978": "angiography",
}
# M3AE ("Multi-modal masked autoencoders for medical vision-and-language pre-training", 2022), and whoever
# compares with it, searches among 2,000 shuffled test images of ROCO; ours are another 2,000.
_GALLERY: Final = 2000
_SECOND: Final = {"train": "train", "validation": "valid", "test": "test"}
_FIRST: Final = {
    "train": ("train",),
    "validation": ("validation", "val"),
    "test": ("test",),
}
_TABLES: Final = {
    "train": "radiologytraindata.csv",
    "validation": "radiologyvaldata.csv",
    "test": "radiologytestdata.csv",
}


def draft(source: Source) -> Draft:
    """Captions in the published split: ROCOv2 where `*_captions.csv` are there, else ROCO of 2018."""
    notes: list[str] = []
    if source.first(f"{_SECOND['test']}_captions.csv") is not None:
        rows = [row for split in _SECOND for row in _second(source, split)]
        name, dataset = "rocov2", ("ROCOv2",)
    else:
        rows = [row for split in _FIRST for row in _first(source, split)]
        name, dataset = "roco", ("ROCO",)
    kept = source.keep_there(rows, notes=notes)
    made = caption_draft(name, kept, dataset=dataset, notes=notes, patients=False)
    tested = f"{name}_test"
    if any(task["table"] == tested for task in made.tasks):
        made.tasks.append(tasks.drawn_retrieval(name, tested, dataset=dataset, pairs=_GALLERY))
    return made


def _second(source: Source, split: str) -> Iterator[Row]:
    theirs = _SECOND[split]
    path = source.need(f"{theirs}_captions.csv", f"{theirs}_captions.csv")
    candidates = (f"{theirs}_images/{theirs}", f"{theirs}_images", f"{theirs}/{theirs}", theirs)
    images = source.cell(source.need(f"the folder `{theirs}` of images", *candidates))
    records = read_rows(path)
    check_columns(path, records, ("ID", "Caption"))
    modality = _modalities(source.first(f"{theirs}_concepts.csv"))
    for record in records:
        yield _row(
            images, record["ID"], record["Caption"], split=split, modality=modality.get(record["ID"], "")
        )


def _modalities(path: Path | None) -> Mapping[str, str]:
    """Image → modality, from its concepts; images with none or several are left blank."""
    if path is None:
        return {}
    records = read_rows(path)
    check_columns(path, records, ("ID", "CUIs"))
    modalities = {}
    for record in records:
        own = {_MODALITY[each] for each in record["CUIs"].split(";") if each in _MODALITY}
        modalities[record["ID"]] = own.pop() if len(own) == 1 else ""
    return modalities


def _first(source: Source, split: str) -> Iterator[Row]:
    folders = [f"{top}{name}" for name in _FIRST[split] for top in ("", "all_data/", "data/")]
    place = source.need(f"{_FIRST[split][0]}/radiology/captions.txt or {_TABLES[split]}", *folders)
    images = source.cell(place / "radiology" / "images")
    captions, table = place / "radiology" / "captions.txt", place / _TABLES[split]
    if captions.is_file():
        for line in captions.read_text(encoding="utf-8-sig").splitlines():
            name, _, caption = line.partition("\t")
            if name.strip():
                yield _row(images, name.strip(), caption, split=split)
    elif table.is_file():
        records = read_rows(table)
        check_columns(table, records, ("name", "caption"))
        for record in records:
            yield _row(images, Path(record["name"]).stem, record["caption"], split=split)
    else:
        raise source.not_that_layout([f"{source.cell(captions)} or {source.cell(table)}"])


def _row(images: str, name: str, caption: str, *, split: str, modality: str = "") -> Row:
    text = " ".join(caption.split())
    return {"image": f"{images}/{name}.jpg", "text": text, "modality": modality, "split": split}
