"""Pictures, questions and answers of examples of question answering, for reports that may show them."""

from collections import defaultdict
from pathlib import Path

from meddistill.data.table import read_table
from meddistill.evaluation.base.exhibits import AnsweredQuestion
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.tasks.vqa.config import VqaConfig
from meddistill.recipes.steps.report_pictures import picture
from meddistill.report.data import Examples

Cells = dict[tuple[str, str, int], str]
Rows = dict[tuple[str, str], set[int]]


def questions_from(suite: SuiteConfig, base: Path, results: Results) -> Examples:
    """Pictures and questions of the rows that the results' exhibits name, and answers of those and others."""
    asked, answered = _wanted(results)
    pictures: dict[tuple[str, int], bytes] = {}
    questions: Cells = {}
    answers: Cells = {}
    for task in suite.tasks:
        if not isinstance(task, VqaConfig):
            continue
        for name in dict.fromkeys(task.tables().values()):
            rows, more = asked[task.name, name], answered[task.name, name]
            if not rows | more:
                continue
            columns = [task.question, task.answer]
            samples = read_table(suite.tables[name], base=base, columns=columns)
            for place, row in enumerate(samples.rows):
                if row in rows:
                    pictures[name, row] = picture(samples, place)
                    questions[task.name, name, row] = samples.columns[task.question][place]
                if row in rows | more:
                    answers[task.name, name, row] = samples.columns[task.answer][place]
    return Examples(pictures=pictures, questions=questions, answers=answers)


def _wanted(results: Results) -> tuple[Rows, Rows]:
    """Rows whose questions are shown, and rows whose answers a model gave, by task and table."""
    asked: Rows = defaultdict(set)
    answered: Rows = defaultdict(set)
    for each in results.exhibits:
        if isinstance(each, AnsweredQuestion):
            asked[each.task, each.table].add(each.row)
            if each.answer_row is not None:
                answered[each.task, each.answer_table].add(each.answer_row)
    return asked, answered
