"""PathVQA: Hugging Face's copy as Parquet. The authors' own files are pickles, which are never read."""

from typing import Final

from meddistill.data.known.draft import Draft
from meddistill.data.known.questions import parquet_files, parquet_rows, question_draft
from meddistill.data.known.source import Source

_SPLITS: Final = {"train": "train", "validation": "validation", "test": "test"}
_CANDIDATES: Final = 14  # for each of 6,719 published test questions


def draft(source: Source) -> Draft:
    """Questions in the published split; yes and no count as closed, all else as open, as the paper has it."""
    files = parquet_files(source, _SPLITS)
    missing = [f"{split}-*.parquet" for split in _SPLITS if split not in files]
    if missing:
        raise source.not_that_layout(missing)
    rows = parquet_rows(source, files)
    for row in rows:
        row["modality"] = "histology"
    return question_draft(
        "path_vqa", rows, dataset=("PathVQA",), notes=[], candidates=_CANDIDATES, in_place=False
    )
