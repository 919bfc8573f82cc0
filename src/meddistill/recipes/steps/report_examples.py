"""Thumbnails, captions, questions and answers of examples, for reports that may show them."""

from collections import defaultdict
from dataclasses import replace

from meddistill.data.table import read_table
from meddistill.evaluation.results import Results
from meddistill.recipes.session import Session
from meddistill.recipes.steps.report_pictures import thumbnail
from meddistill.recipes.steps.report_questions import questions_of
from meddistill.report.data import Examples


def examples_of(session: Session, results: Results) -> Examples:
    """Pictures and captions of every row that the results' examples name, and questions with answers."""
    suite = session.loaded.suite
    tables = suite.tables if suite is not None else {}
    wanted: dict[str, set[int]] = defaultdict(set)
    for example in results.examples:
        wanted[example.table].update((example.query, *example.answers))
    pictures: dict[tuple[str, int], bytes] = {}
    captions: dict[tuple[str, int], str] = {}
    for name, rows in wanted.items():
        samples = read_table(tables[name], base=session.loaded.suite_base)
        place = {row: position for position, row in enumerate(samples.rows)}
        for row in sorted(rows & place.keys()):
            position = place[row]
            pictures[name, row] = thumbnail(samples, position)
            if samples.texts is not None:
                captions[name, row] = samples.texts[position]
    asked = questions_of(session, results)
    return replace(asked, pictures={**pictures, **asked.pictures}, captions=captions)
