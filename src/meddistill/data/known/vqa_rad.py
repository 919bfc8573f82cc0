"""VQA-RAD: the authors' JSON with its images, the two JSON files of later code, or Hugging Face's copy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.questions import parquet_files, parquet_rows, question_draft
from meddistill.data.known.source import Source

_PUBLIC: Final = "VQA_RAD Dataset Public.json"
_IMAGES: Final = ("VQA_RAD Image Folder", "images", "VQA_RAD_Image_Folder")
_NEEDED: Final = ("image_name", "question", "answer", "answer_type", "question_type", "phrase_type")
# The paper: chest radiographs, axial CT of the abdomen, and CT or MR of the head, which nothing tells apart.
_MODALITY: Final = {"CHEST": "xray", "ABD": "ct"}
_DATASET: Final = ("VQA-RAD", "MedPix")
_CANDIDATES: Final = 200  # for each of 451 published test questions


def draft(source: Source) -> Draft:
    """Questions in the published split: the authors mark test questions by `phrase_type` (`test_...`).

    Copies of a triplet are left out, of those in both splits the one for training; Hugging Face's copy, where
    its maker did that, has 1,793 and 451 of the 2,248. Every image is of another patient, says the paper; so
    an image is a patient.
    """
    notes: list[str] = []
    files = parquet_files(source, {"train": "train", "test": "test"})
    if files:
        if "test" not in files:
            raise source.not_that_layout(["test-*.parquet"])
        notes.append("this copy has no answer types: yes and no count as closed, all else as open")
        rows = parquet_rows(source, files)
        return question_draft(
            "vqa_rad", rows, dataset=_DATASET, notes=notes, candidates=_CANDIDATES, in_place=False
        )
    rows = source.keep_there(_json_rows(source), notes=notes)
    return question_draft("vqa_rad", rows, dataset=_DATASET, notes=notes, candidates=_CANDIDATES)


def _json_rows(source: Source) -> list[Row]:
    public = source.first(_PUBLIC, f"annotations/{_PUBLIC}")
    two = {split: source.first(f"{split}set.json") for split in ("train", "test")}
    if public is None and not all(two.values()):
        what = f"`{_PUBLIC}`, or trainset.json and testset.json, or Parquet files,"
        raise source.not_that_layout([what])
    images = source.cell(source.need(f"the folder of images `{_IMAGES[0]}`", *_IMAGES))
    if public is not None:
        return [_row(record, images, None) for record in source.list_of(public, _NEEDED)]
    return [
        _row(record, images, split)
        for split, path in two.items()
        if path is not None
        for record in source.list_of(path, _NEEDED[:-2])
    ]


def _row(record: Mapping[str, Any], images: str, split: str | None) -> Row:
    name = Path(str(record["image_name"])).name
    published = "test" if str(record.get("phrase_type", "")).startswith("test") else "train"
    return {
        "image": f"{images}/{name}",
        "question": " ".join(str(record["question"]).split()),
        "answer": " ".join(str(record["answer"]).split()),
        "answer_type": str(record["answer_type"]).strip().lower(),  # some read "CLOSED "
        "question_type": _first_type(str(record.get("question_type", ""))),
        "modality": _MODALITY.get(str(record.get("image_organ", "")).strip().upper(), ""),
        "patient": Path(name).stem,
        "split": split or published,
    }


def _first_type(stated: str) -> str:
    """Some questions have several types, `SIZE, PRES`; the first counts."""
    return stated.split(",")[0].strip().upper()
