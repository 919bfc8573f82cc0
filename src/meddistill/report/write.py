"""The report: one HTML file that asks nothing of a network and runs no script.

Everything is text, tables and SVG, so that the file needs no library, prints well, can be mailed, and is
safe to open: its content security policy forbids scripts and all addresses but the pictures inside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from meddistill.evaluation.base.results import Results
from meddistill.files import write_whole
from meddistill.licences import NOT_LEGAL_ADVICE
from meddistill.report import scores, sections
from meddistill.report.attention_maps import SCALE
from meddistill.report.audit import teachers_before
from meddistill.report.bags import bag_sections
from meddistill.report.classification import classification_details
from meddistill.report.data import ReportData
from meddistill.report.differences import differences
from meddistill.report.formatting import count, plain_name, plural
from meddistill.report.groups import panels, single_labels
from meddistill.report.headline import headline
from meddistill.report.markers import line_key
from meddistill.report.models import COMPARED, ModelStyle, model_styles
from meddistill.report.phrases import wording
from meddistill.report.segmentation import segmentation
from meddistill.report.stages import stages
from meddistill.report.standing import standing
from meddistill.report.survival import survival_tasks
from meddistill.report.vqa import vqa_tables

_TEMPLATE = "report.html"
_STYLE = "report.css"
# What `_evaluated` gives, of a run that has not been evaluated; the template leaves such sections out.
_NOT_EVALUATED: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "standing": None,
        "overview": None,
        "columns": (),
        "tasks": (),
        "heat": None,
        "seen": (),
        "modalities": None,
        "classification": (),
        "between": None,
        "panels": (),
        "single_labels": "",
        "agreement": (),
        "survival": (),
        "queries": (),
        "segmentation": (),
        "vqa": (),
        "bags": (),
        "shades": (),
        "metrics": (),
    }
)


def write_report(data: ReportData, path: Path) -> None:
    """Write the report; a reader sees the old or the new file, never a part.

    Sections without content are left out, so that a run can be reported at any stage.
    """
    write_whole(path, render(data).encode("utf-8", "replace"))


def render(data: ReportData) -> str:
    """The report as HTML. All text of `data` is escaped."""
    environment = Environment(
        loader=PackageLoader("meddistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    environment.filters["plural"] = plural
    environment.filters["line_key"] = line_key
    source, _, _ = PackageLoader("meddistill.report").get_source(environment, _STYLE)
    return environment.get_template(_TEMPLATE).render(style=Markup(source), data=data, **_content(data))


def _content(data: ReportData) -> dict[str, Any]:
    models = model_styles(data.results, data.models)
    content: dict[str, Any] = {
        "looks": models,
        "words": wording(models),
        "headline": headline(data),
        "before": teachers_before(data.audit, models) if data.audit else None,
        "stages": stages(data.curves, models),
        "sizes": sections.size_table(data.models, models),
        "licences": sections.licence_rows(data.models),
        "not_inherited": [card.name for card in data.models if card.role in COMPARED],
        "permitted": sections.permitted_use(data.student_terms) if data.student_terms else (),
        "advice": NOT_LEGAL_ADVICE,
        "notes": sections.task_notes(data),
        "warnings": (*data.warnings, *(_plain_warnings(data.results) if data.results else ())),
    }
    evaluated = _NOT_EVALUATED if data.results is None else _evaluated(data.results, data, models)
    return {**content, **evaluated}


def _plain_warnings(results: Results) -> list[str]:
    """The warnings, tasks spelt in them as everywhere in the report."""
    starts = {f"{task.name}: ": f"{plain_name(task.name)}: " for task in results.tasks}
    found = []
    for warning in results.warnings:
        start = next((start for start in starts if warning.startswith(start)), "")
        found.append(starts.get(start, "") + warning.removeprefix(start))
    return found


def _evaluated(results: Results, data: ReportData, models: Sequence[ModelStyle]) -> dict[str, Any]:
    return {
        "standing": standing(results, models),
        "overview": scores.overview(results, models),
        "columns": scores.task_columns(models),
        "tasks": scores.task_rows(results, models),
        "heat": scores.heat_map(results, models),
        "seen": scores.seen_lines(results, models),
        "modalities": scores.by_modality(results, models),
        "classification": classification_details(results, models),
        "between": differences(results, models),
        "panels": panels(results, models),
        "single_labels": single_labels(results),
        "agreement": sections.agreement_tables(results, models),
        "survival": survival_tasks(results, models),
        "queries": sections.queries(results, data.examples, models),
        "segmentation": segmentation(results, data.examples, models),
        "vqa": vqa_tables(results, data.examples, models),
        "bags": bag_sections(results, data.examples, models),
        "shades": SCALE,
        "metrics": scores.all_metrics(results),
    }
