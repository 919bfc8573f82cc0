"""VQA-Med 2019 (ImageCLEF): text files of questions, one folder of images a split."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from meddistill.data.known.draft import Draft, Row
from meddistill.data.known.questions import guessed_answer_type, question_draft
from meddistill.data.known.source import Source
from meddistill.errors import TableError

_TRAINING, _VALIDATION, _TEST = (
    "ImageClef-2019-VQA-Med-Training",
    "ImageClef-2019-VQA-Med-Validation",
    "VQAMed2019Test",
)
_QUESTIONS: Final = {
    "train": f"{_TRAINING}/All_QA_Pairs_train.txt",
    "validation": f"{_VALIDATION}/All_QA_Pairs_val.txt",
    "test": f"{_TEST}/VQAMed2019_Test_Questions_w_Ref_Answers.txt",
}
_IMAGES: Final = {
    "train": (f"{_TRAINING}/Train_images",),
    "validation": (f"{_VALIDATION}/Val_images",),
    "test": (f"{_TEST}/VQAMed2019_Test_Images", f"{_TEST}/Test_Images"),
}
_CATEGORIES: Final = ("Modality", "Plane", "Organ", "Abnormality")
_CANDIDATES: Final = 200  # for each of 500 published test questions


def draft(source: Source) -> Draft:
    """Questions in the published split; the category is the question type, for training from the files by
    category. Of several right answers (`a#b`) to a test question the first counts.
    """
    missing = [path for path in _QUESTIONS.values() if source.first(path) is None]
    missing += [names[0] for names in _IMAGES.values() if source.first(*names) is None]
    if missing:
        raise source.not_that_layout(missing)
    notes: list[str] = []
    rows = [row for split in _QUESTIONS for row in _rows(source, split)]
    several = sum(row["answer"] != row["answers"] for row in rows)
    if several:
        notes.append(f"{several} test questions have several right answers, of which the first counts")
    kept = source.keep_there(rows, notes=notes)
    dataset = ("VQA-Med-2019", "MedPix")
    return question_draft("vqa_med_2019", kept, dataset=dataset, notes=notes, candidates=_CANDIDATES)


def _rows(source: Source, split: str) -> Iterator[Row]:
    path = source.need(_QUESTIONS[split], _QUESTIONS[split])
    images = source.cell(source.need(_IMAGES[split][0], *_IMAGES[split]))
    columns = 4 if split == "test" else 3
    categories = {} if split == "test" else _categories(path.parent)
    for fields in _lines(path, columns):
        image, question, answers = fields[0], fields[-2], fields[-1]
        answer = answers.split("#")[0].strip()
        stated = fields[1] if split == "test" else categories.get((image, question), "")
        yield {
            "image": f"{images}/{image}.jpg",
            "question": question,
            "answer": answer,
            "answers": answers,
            "answer_type": guessed_answer_type(answer),
            "question_type": stated.lower(),
            "modality": "",
            "patient": image,
            "split": split,
        }


def _lines(path: Path, columns: int) -> list[list[str]]:
    rows, mistakes = [], []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == columns:
            rows.append(fields)
        elif line.strip():
            mistakes.append(f"line {number} must have {columns} fields separated by |; got {len(fields)}.")
    if mistakes:
        raise TableError(str(path), mistakes)
    return rows


def _categories(folder: Path) -> Mapping[tuple[str, str], str]:
    categories: dict[tuple[str, str], str] = {}
    for category in _CATEGORIES:
        for path in sorted(folder.glob(f"QAPairsByCategory/*{category}*.txt")):
            categories |= {(fields[0], fields[1]): category for fields in _lines(path, 3)}
    return categories
