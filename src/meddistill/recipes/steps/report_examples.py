"""Pictures, captions, questions and answers of examples, for reports that may show them."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from meddistill.data.table import read_table
from meddistill.evaluation.base.exhibits import MaskExample
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.session import Session
from meddistill.recipes.steps.report_pictures import OUTLINED, THUMBNAIL, picture
from meddistill.recipes.steps.report_questions import questions_from
from meddistill.recipes.steps.report_slides import slides_from
from meddistill.report.bags import attended
from meddistill.report.data import Examples


def examples_of(session: Session, results: Results) -> Examples:
    """What `examples_from` finds, of a session's suite."""
    suite = session.loaded.suite
    return Examples() if suite is None else examples_from(suite, session.loaded.suite_base, results)


def examples_from(suite: SuiteConfig, base: Path, results: Results) -> Examples:
    """Pictures and captions of every row that the results' examples name, and questions with answers."""
    wanted: dict[str, set[int]] = defaultdict(set)
    for example in results.examples:
        wanted[example.table].update((example.query, *example.answers))
    outlined = {
        (each.table, each.row) for each in results.exhibits if isinstance(each, MaskExample) and each.given
    }
    for name, row in outlined:
        wanted[name].add(row)
    for table, shown in attended(results.exhibits):
        wanted[table].update(shown)
    pictures: dict[tuple[str, int], bytes] = {}
    captions: dict[tuple[str, int], str] = {}
    for name, rows in wanted.items():
        samples = read_table(suite.tables[name], base=base)
        place = {row: position for position, row in enumerate(samples.rows)}
        for row in sorted(rows & place.keys()):
            position = place[row]
            geometry = OUTLINED if (name, row) in outlined else THUMBNAIL
            pictures[name, row] = picture(samples, position, geometry)
            if samples.texts is not None:
                captions[name, row] = samples.texts[position]
    asked = questions_from(suite, base, results)
    together = {**asked.pictures, **pictures}
    return replace(asked, pictures=together, captions=captions, slides=slides_from(suite, base, results))
