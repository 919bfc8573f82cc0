"""Writes a phantom data set: images, masks, and one table for every kind of task."""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from meddistill.data.phantom.captions import caption
from meddistill.data.phantom.cohort import Patient, draw_sample, generator, patient, patient_of
from meddistill.data.phantom.config import PhantomConfig
from meddistill.data.phantom.draw import Drawing
from meddistill.data.phantom.outcomes import survival
from meddistill.data.phantom.png import encode_png
from meddistill.data.phantom.prompts import MODALITY_TASK, finding_task
from meddistill.data.phantom.questions import questions
from meddistill.data.phantom.vocabulary import WORDS
from meddistill.errors import ConfigError
from meddistill.files import folder_aside

MANIFEST = "phantom.json"
_SUBJECT = "phantom"
_DRAWINGS = 1  # raised whenever the same configuration gives other files
_COLUMNS = {
    "pairs": "image text modality finding patient_id split sex age_band",
    "classification": "image task label modality patient_id split sex age_band",
    "segmentation": "image mask structure label modality patient_id split",
    "vqa": "image question answer answer_type question_type patient_id split",
    "survival": "patient_id time_months event age sex split",
}
Rows = dict[str, list[Sequence[str | int | float]]]


@dataclass(frozen=True, kw_only=True)
class PhantomTables:
    """Where the tables of a phantom are; paths in them are relative to their folder."""

    pairs: Path
    classification: Path
    segmentation: Path
    vqa: Path
    survival: Path


def generate(
    folder: Path, config: PhantomConfig, *, progress: Callable[[int, int], None] | None = None
) -> PhantomTables:
    """Makes the data set of `config` in `folder`, which appears whole or not at all.

    `progress` is called with (images done, images in all). A folder that already holds this phantom is left
    as it is. Raises ConfigError when the folder holds anything else. Equal configurations give equal bytes.
    """
    tables = PhantomTables(**{name: folder / f"{name}.csv" for name in _COLUMNS})
    if _is_made(folder, config):
        return tables
    with folder_aside(folder, replace=False) as partial:
        (partial / "images").mkdir()
        (partial / "masks").mkdir()
        rows: Rows = {name: [] for name in _COLUMNS}
        # Between such small products the threads of a linear algebra would only wait for one another.
        with threadpool_limits(limits=1, user_api="blas"):
            for sample in range(config.samples):
                person, drawing = draw_sample(config, sample)
                _save(partial, sample, drawing)
                _describe(rows, config, sample, person=person, drawing=drawing)
                if progress is not None:
                    progress(sample + 1, config.samples)
        for index in range(patient_of(config, config.samples - 1) + 1):
            rows["survival"].append(_outcome(config, patient(config, index)))
        digests = {name: _write_table(partial / f"{name}.csv", name, rows[name]) for name in _COLUMNS}
        manifest = {"drawings": _DRAWINGS, "config": config.model_dump(mode="json"), "sha256": digests}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return tables


def _is_made(folder: Path, config: PhantomConfig) -> bool:
    """Whether the folder holds this very phantom; False when it is absent or empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    manifest: Any = None
    if (folder / MANIFEST).is_file():
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except ValueError:
            manifest = None
    if not isinstance(manifest, dict):
        msg = f"`folder` must be absent, empty or a phantom; got other files in {folder}. Choose another."
        raise ConfigError(_SUBJECT, (msg,))
    if manifest.get("drawings") != _DRAWINGS or manifest.get("config") != config.model_dump(mode="json"):
        msg = (
            f"`folder` must hold the phantom of this configuration; got one of another configuration or "
            f"version in {folder}. Delete it or choose another."
        )
        raise ConfigError(_SUBJECT, (msg,))
    return True


def _save(folder: Path, sample: int, drawing: Drawing) -> None:
    """Lossless PNG, gray where it can be."""
    pixels = drawing.image[..., 0] if drawing.gray else drawing.image
    (folder / _name("images", sample)).write_bytes(encode_png(pixels))
    (folder / _name("masks", sample)).write_bytes(encode_png(drawing.mask))


def _name(kind: str, sample: int) -> str:
    return f"{kind}/{sample:06d}.png"


def _describe(rows: Rows, config: PhantomConfig, sample: int, *, person: Patient, drawing: Drawing) -> None:
    """Adds the rows of one image to all tables but the survival table, which is by patient."""
    case, image = drawing.facts, _name("images", sample)
    who, band = (person.id, person.split), (person.sex, person.age_band)
    text = caption(generator(config, "caption", sample), case, age=person.age, sex=person.sex)
    rows["pairs"].append((image, text, case.modality, case.finding.label, *who, *band))
    for task, label in (
        (MODALITY_TASK, WORDS[case.modality].label),
        (finding_task(case.modality), case.finding.label),
    ):
        rows["classification"].append((image, task, label, case.modality, *who, *band))
    for structure, value in drawing.structures.items():
        mask = _name("masks", sample)
        rows["segmentation"].append((image, mask, structure, value, case.modality, *who))
    for asked in questions(generator(config, "questions", sample), case):
        rows["vqa"].append((image, *asked, *who))


def _outcome(config: PhantomConfig, person: Patient) -> Sequence[str | int | float]:
    outcome = survival(generator(config, "outcome", person.index), person.case, age=person.age)
    return (person.id, outcome.time_months, outcome.event, person.age, person.sex, person.split)


def _write_table(path: Path, name: str, rows: Sequence[Sequence[str | int | float]]) -> str:
    """Writes one CSV with Unix line ends and returns its SHA-256."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS[name].split())
        writer.writerows(rows)
    return hashlib.sha256(path.read_bytes()).hexdigest()
