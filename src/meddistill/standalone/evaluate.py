"""Any models on any suite, without a recipe: what is wrong is told at once, then numbers and a report."""

import time
from functools import partial
from pathlib import Path
from typing import Final

from meddistill import __version__
from meddistill.data.decoded import DECODED, DecodedImages
from meddistill.errors import ConfigError
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.progress import Progress
from meddistill.recipes.mistakes import Mistakes
from meddistill.report.data import ReportData
from meddistill.report.examples import TableExamples
from meddistill.report.write import write_report
from meddistill.standalone.bundle_embedder import BundleEmbedder
from meddistill.standalone.load_models import load_models
from meddistill.standalone.request import EvaluationRequest
from meddistill.standalone.train_overlap import TrainOverlap, find_train_overlap
from meddistill.training.processes import Processes

REPORT_FILE: Final = "report.html"
_SUBJECT: Final = "evaluate"


def evaluate_models(
    request: EvaluationRequest, *, out: Path | None, examples: bool, progress: Progress
) -> tuple[Results, Path]:
    """Evaluate models on a suite.

    Writes `results.json`, the predictions, the features and `report.html` to `out`, by default
    `evaluations/<name of the suite>`, and returns the results and that folder. What is there is used again.

    Raises ConfigError with all that is wrong with the models and the suite's tables; also where the tested
    images are among those that a run's student learnt from.
    """
    suite, base = request.suite, request.base
    folder = out or Path("evaluations") / suite.name
    decoded = DecodedImages(folder / DECODED)
    mistakes = Mistakes()
    device = Processes().device
    tables = mistakes.catch(partial(_checked_tables, suite, base, decoded, progress))
    models = mistakes.catch(lambda: load_models(request.models, student=request.student, device=device))
    overlap = TrainOverlap()
    if tables is not None:
        stores = {each.name: each.train_overlap for each in request.models if each.train_overlap is not None}
        overlap = find_train_overlap(stores, suite, tables)
        mistakes.lines += overlap.refused
    if mistakes.lines or tables is None or models is None:
        raise ConfigError(_SUBJECT, mistakes.lines, remedy=mistakes.remedy)
    decoded.write()
    notes = [
        f"{each.embedder.name}: a bundle gives no patch tokens, and embeddings of length 1: probes, survival "
        "and bags differ a little from those of its student"
        for each in models
        if isinstance(each.embedder, BundleEmbedder)
    ]
    notes += overlap.reported
    for line in (*tables.row_notes, *notes):
        progress.say(f"evaluation: {line}")
    results = evaluate(
        [each.embedder for each in models],
        suite,
        base=base,
        folder=folder,
        progress=progress,
        examples=examples,
        tables=tables,
    )
    results = results.model_copy(update={"warnings": (*notes, *results.warnings)})
    results.save(folder)
    report = ReportData(
        title=suite.name,
        subtitle="Models on one suite, by the same code.",
        created=time.strftime("%d %B %Y"),
        version=__version__,
        results=results,
        models=[each.card for each in models],
        examples=TableExamples(suite, tables) if examples else None,
    )
    write_report(report, folder / REPORT_FILE)
    return results, folder


def _checked_tables(
    suite: SuiteConfig, base: Path, decoded: DecodedImages, progress: Progress
) -> SuiteTables:
    tables = SuiteTables(suite, base=base, progress=progress, decoded=decoded)
    check_tasks(suite, tables)
    return tables
