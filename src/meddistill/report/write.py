"""The report: one HTML file that asks nothing of a network and runs no script.

Everything is text, tables and SVG, so that the file needs no library, prints well, can be mailed, and is
safe to open: its content security policy forbids scripts and all addresses but the pictures inside it.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial
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
from meddistill.report.formatting import (
    between,
    count,
    family,
    metric,
    number,
    plain_name,
    plural,
    probability,
    signed,
    signed_between,
)
from meddistill.report.groups import panels, single_labels
from meddistill.report.headline import headline
from meddistill.report.markers import line_key
from meddistill.report.models import COMPARED, model_styles
from meddistill.report.phrases import phrases
from meddistill.report.prose import with_code
from meddistill.report.segmentation import segmentation
from meddistill.report.stages import stages
from meddistill.report.standing import standing
from meddistill.report.survival import survival_tasks
from meddistill.report.vqa import vqa_tables

_TEMPLATE = "report.html"
_STYLE = "report.css"
_FILTERS: Final[Mapping[str, Callable[..., object]]] = MappingProxyType(
    {
        "between": between,
        "classes": sections.classes_of,
        "count": count,
        "family": family,
        "line_key": line_key,
        "metric": metric,
        "number": number,
        "plain_name": plain_name,
        "plural": plural,
        "probability": probability,
        "signed": signed,
        "signed_between": signed_between,
        "size": sections.size_of,
        "with_code": with_code,
    }
)


def write_report(data: ReportData, path: Path) -> None:
    """Write the report; a reader sees the old or the new file, never a part.

    Sections without content are left out, so that a run can be reported at any stage.
    """
    write_whole(path, render(data).encode("utf-8", "replace"))


def render(data: ReportData) -> str:
    """The report as HTML. All text of `data` is escaped."""
    environment = _templates()
    source, _, _ = PackageLoader("meddistill.report").get_source(environment, _STYLE)
    return environment.get_template(_TEMPLATE).render(style=Markup(source), data=data, **_content(data))


@cache
def _templates() -> Environment:
    """Compiled once a process, which takes longer than to fill one in."""
    environment = Environment(
        loader=PackageLoader("meddistill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _content(data: ReportData) -> dict[str, Any]:
    models = model_styles(data.results, data.models)
    content: dict[str, Any] = {
        "styles": models,
        "phrases": phrases(models),
        "headline": headline(data),
        "before": teachers_before(data.audit, models) if data.audit else None,
        "stages": stages(data.curves, models),
        "sizes": sections.size_table(data.models, models),
        "columns": scores.task_columns(models),
        "shades": SCALE,
        "not_inherited": [card.name for card in data.models if card.role in COMPARED],
        "permitted": sections.permitted_use(data.student_terms) if data.student_terms else (),
        "advice": NOT_LEGAL_ADVICE,
        "warnings": (*data.warnings, *(_plain_warnings(data.results) if data.results else ())),
        "single_labels": single_labels(data.results) if data.results else "",
    }
    results, examples = data.results, data.examples
    # Of a run that has not been evaluated None; the template leaves sections without content out.
    of_results: dict[str, Callable[..., object]] = {
        "standing": standing,
        "overview": scores.overview,
        "tasks": scores.task_rows,
        "heat": scores.heat_map,
        "seen": scores.seen_lines,
        "modalities": scores.by_modality,
        "classification": classification_details,
        "between": differences,
        "panels": panels,
        "agreement": sections.agreement_tables,
        "survival": survival_tasks,
        "queries": partial(sections.queries, examples=examples),
        "segmentation": partial(segmentation, examples=examples),
        "vqa": partial(vqa_tables, examples=examples),
        "bags": partial(bag_sections, examples=examples),
    }
    for name, section in of_results.items():
        content[name] = section(results, styles=models) if results else None
    return content


def _plain_warnings(results: Results) -> list[str]:
    """The warnings, tasks spelt in them as everywhere in the report."""
    starts = {f"{task.name}: ": f"{plain_name(task.name)}: " for task in results.tasks}
    warnings = []
    for warning in results.warnings:
        start = next((start for start in starts if warning.startswith(start)), "")
        warnings.append(starts.get(start, "") + warning.removeprefix(start))
    return warnings
