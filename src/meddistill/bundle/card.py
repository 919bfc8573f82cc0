"""The model card: `README.md` with the front matter that model hubs read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

import meddistill
from meddistill.bundle import card_sections as sections
from meddistill.bundle.config import CardNotes
from meddistill.bundle.parity import Parity
from meddistill.bundle.truncation import CaptionLengths
from meddistill.bundle_format import CARD, LICENCES, Int8Comparison, Preprocessing
from meddistill.evaluation.base.results import Results
from meddistill.licences import LicenceTerms, Policy
from meddistill.students.metadata import Provenance
from meddistill.students.size import ModelSize
from meddistill.teachers.card import TeacherCard

# Licences that model hubs know, by the name they give them.
_HUB_NAMES: Final[Mapping[str, str]] = {
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
}
_HUB_ID: Final = re.compile(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]*/[\w.-]+)")


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """Everything that the card tells; `medical` names the medical modalities of the training data."""

    provenance: Provenance
    cards: tuple[TeacherCard, ...]
    policy: Policy
    preprocessing: Preprocessing
    size: ModelSize
    embed_dim: int
    lengths: CaptionLengths | None
    parity: Parity | None
    int8: Int8Comparison | None
    results: Results | None
    notes: CardNotes
    medical: tuple[str, ...] = ()

    @property
    def licence(self) -> LicenceTerms:
        """What the student inherits."""
        return self.provenance.licence


def write_card(folder: Path, facts: CardFacts) -> None:
    """Write the card."""
    (folder / CARD).write_text(model_card(facts), encoding="utf-8")


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    body = [
        sections.banner(facts.provenance.name, facts.medical),
        sections.uses(facts.notes),
        sections.how_to_use(facts.parity),
        sections.teachers(facts.cards),
        sections.licence(facts.provenance, facts.policy),
        sections.data(facts.provenance, facts.notes),
        sections.preprocessing(facts.preprocessing, facts.lengths),
        sections.metrics(facts.results),
        sections.fidelity(facts.results, facts.parity, facts.int8),
        sections.limits(facts.notes, facts.lengths, text_trained=facts.provenance.text_trained),
        sections.technical(facts.size, facts.embed_dim, facts.preprocessing),
        sections.upkeep(facts.notes, meddistill.__version__),
    ]
    return f"---\n{front_matter(facts).to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n"


def front_matter(facts: CardFacts) -> ModelCardData:
    """What hubs index: licence, task, teachers, results."""
    known = _HUB_NAMES.get(facts.licence.name)
    # The card's class refuses what is None here and there, so that optional fields come as keywords.
    optional: dict[str, Any] = {}
    if known is None:
        optional |= {"license_name": _slug(facts.licence.name), "license_link": f"{LICENCES}/STUDENT.txt"}
    results = _eval_results(facts.results)
    if results:
        optional |= {"model_name": facts.provenance.name, "eval_results": results}
    return ModelCardData(
        license=known or "other",
        library_name="open_clip",
        pipeline_tag="zero-shot-image-classification",
        tags=[*(["medical"] if facts.medical else []), "clip", "knowledge-distillation"],
        base_model=_base_models(facts.cards) or None,
        ignore_metadata_errors=False,
        **optional,
    )


def _base_models(cards: tuple[TeacherCard, ...]) -> list[str]:
    matches = (_HUB_ID.fullmatch(card.source) for card in cards)
    return sorted({match[1] for match in matches if match})


def _eval_results(results: Results | None) -> list[EvalResult]:
    if results is None:
        return []
    names = results.named("student")
    rows = [results.main(name, task.name) for name in names[:1] for task in results.tasks]
    return [
        EvalResult(
            task_type=_TASK_TYPES.get(row.family, "other"),
            dataset_type=results.suite,
            dataset_name=row.task,
            dataset_config=row.task,  # results of one dataset and configuration are written as one entry
            metric_type=row.metric,
            metric_value=round(row.value, 4),
            metric_name=row.metric,
        )
        for row in rows
        if row is not None and row.value is not None
    ]


_TASK_TYPES: Final[Mapping[str, str]] = {
    "zero_shot": "zero-shot-image-classification",
    "linear_probe": "image-classification",
    "zero_shot_multilabel": "zero-shot-image-classification",
    "linear_probe_multilabel": "image-classification",
    "knn": "image-classification",
    "retrieval": "image-text-retrieval",
}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "terms"
