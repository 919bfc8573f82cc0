"""What the sets of questions have in common: copies, answer types, images of several splits."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from meddistill.data.arrow_files import UNREADABLE, parquet_file, why_not_parquet
from meddistill.data.known import tasks
from meddistill.data.known.draft import SPLITS, Draft, DraftTable, Row, by_split
from meddistill.data.known.repeats import shared_images, without_repeats
from meddistill.data.known.source import Source
from meddistill.data.raw_table import EmbeddedImage
from meddistill.data.unpack import unpack
from meddistill.errors import TableError

_TRIPLET: Final = ("image", "question", "answer")
_ROLES: Final = {"image": "image", "patient": "patient", "modality": "modality"}
_BATCH: Final = 256


def question_draft(
    name: str,
    rows: Iterable[Row],
    *,
    dataset: tuple[str, ...],
    notes: list[str],
    candidates: int,
    in_place: bool = True,
) -> Draft:
    """The draft of a set of questions, without copies of an image with its question and answer.

    `candidates` answers are ranked for a question, where none is learnt.

    A column `image_elsewhere` says `yes` in rows for training or validation whose image is tested too. Where
    there are such rows, tasks ending in `_new_images` leave them out: what the published split measures is
    then partly whether an image is known.
    """
    kept = without_repeats(list(rows), _TRIPLET, what="image-question-answer triplets", notes=notes)
    shared = shared_images(kept)
    for row in kept:
        row["image_elsewhere"] = "yes" if row["image"] in shared and row["split"] != "test" else "no"
    views = by_split(name, kept)
    typed = any(row.get("question_type") for row in kept)
    made = Draft(notes=notes)
    roles = {split: f"{name}_{split}" for split in SPLITS if f"{name}_{split}" in views}
    if {"train", "test"} <= set(roles):
        entries = partial(tasks.questions, dataset=dataset, typed=typed, candidates=candidates)
        made.tasks += entries(name, roles, shared=bool(shared))
        new = _new_images(name, kept, views) if shared else {}
        if "train" in new:
            new_name = f"{name}_new_images"
            made.tasks += entries(new_name, new, shared=False)
            notes.append(f"the tasks {new_name}_* learn only from images that are not tested")
    if shared:
        notes.append(f"as published, {len(shared)} images have questions in several splits")
    table = DraftTable(name=name, rows=kept, views=views, roles=_ROLES, in_place=in_place)
    made.tables.append(table)
    return made


def _new_images(name: str, rows: list[Row], views: dict[str, dict[str, str]]) -> dict[str, str]:
    """Role → table, of rows on images that stand in no other split; views are added where any is left out."""
    roles = {"test": f"{name}_test"}
    for split in ("train", "validation"):
        own = {row["image_elsewhere"] for row in rows if row["split"] == split}
        if own == {"no"}:
            roles[split] = f"{name}_{split}"
        elif "no" in own:
            roles[split] = f"{name}_new_images_{split}"
            views[roles[split]] = {"split": split, "image_elsewhere": "no"}
    return {split: roles[split] for split in SPLITS if split in roles}


def guessed_answer_type(answer: str) -> str:
    """`closed` for yes and no, else `open`; for copies that leave the type out."""
    return "closed" if answer.strip().lower().rstrip(".") in {"yes", "no"} else "open"


def parquet_files(source: Source, splits: Mapping[str, str]) -> dict[str, list[Path]]:
    """Split → the Parquet files of a Hugging Face copy; `splits` is our name → theirs."""
    files_of = {}
    for split, theirs in splits.items():
        patterns = (f"data/{theirs}-*.parquet", f"{theirs}-*.parquet", f"default/{theirs}/*.parquet")
        files = [path for pattern in patterns for path in sorted(source.folder.glob(pattern))]
        if files:
            files_of[split] = files
    return files_of


def parquet_rows(source: Source, files: Mapping[str, list[Path]]) -> list[Row]:
    """Questions of a Hugging Face copy (image, question, answer); its images are written as files.

    An image is known by its bytes, which name its file, and stands for a patient of its own.
    """
    rows: list[Row] = []
    for split, own in files.items():
        total = sum(_opened(path).metadata.num_rows for path in own)
        with source.progress.track(f"{source.name} {split}", total, unit="rows") as advance:
            for path in own:
                for batch in _batches(path):
                    rows += [_parquet_row(source, path, split, record) for record in batch]
                    advance(len(batch))
    return rows


def _opened(path: Path) -> pq.ParquetFile:
    try:
        file = parquet_file(path)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    missing = {"image", "question", "answer"} - set(file.schema_arrow.names)
    if missing:
        rule = f"the table must have the columns {', '.join(sorted(missing))}; got none of that name."
        raise TableError(str(path), [rule])
    return file


def _batches(path: Path) -> Iterator[list[dict[str, Any]]]:
    try:
        for batch in _opened(path).iter_batches(_BATCH, columns=["image", "question", "answer"]):
            yield batch.to_pylist()
    except UNREADABLE as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> TableError:
    return TableError(str(path), [f"the table must be readable Parquet; got {why_not_parquet(path, error)}"])


def _parquet_row(source: Source, path: Path, split: str, record: dict[str, Any]) -> Row:
    image = record["image"]
    content = image.get("bytes") if isinstance(image, dict) else image
    if not isinstance(content, bytes):
        raise TableError(str(path), ["`image` must hold the images themselves; got none in a row."])
    named = EmbeddedImage(content, (image.get("path") or "") if isinstance(image, dict) else "")
    file = unpack({0: named}, source.images, rows=[0])[0]
    answer = str(record["answer"])
    return {
        "image": f"images/{file.name}",
        "question": str(record["question"]),
        "answer": answer,
        "answer_type": guessed_answer_type(answer),
        "modality": "",
        "patient": file.stem,
        "split": split,
    }
