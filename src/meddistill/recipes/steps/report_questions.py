"""Pictures, questions and answers of examples of question answering, for reports that may show them."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from meddistill.data.table import read_table
from meddistill.evaluation.config import SuiteConfig
from meddistill.evaluation.exhibits import AnsweredQuestion
from meddistill.evaluation.results import Results
from meddistill.evaluation.vqa.config import VqaConfig
from meddistill.recipes.steps.report_pictures import picture
from meddistill.report.data import Examples

Cells = dict[tuple[str, int], str]


def questions_from(suite: SuiteConfig, base: Path, results: Results) -> Examples:
    """Pictures and questions of the rows that the results' exhibits name, and answers of those and others."""
    exhibits = [each for each in results.exhibits if isinstance(each, AnsweredQuestion)]
    if not exhibits:
        return Examples()
    asked: dict[str, set[int]] = defaultdict(set)
    answered: dict[str, set[int]] = defaultdict(set)
    for each in exhibits:
        asked[each.table].add(each.row)
        if each.answer_row is not None:
            answered[each.answer_table].add(each.answer_row)
    columns = _columns(suite)
    pictures: dict[tuple[str, int], bytes] = {}
    questions: Cells = {}
    answers: Cells = {}
    for name in asked | answered:
        question, answer = columns[name]
        config = suite.tables[name]
        samples = read_table(config, base=base, columns=[question, answer])
        for place, row in enumerate(samples.rows):
            if row in asked[name]:
                pictures[name, row] = picture(samples, place)
                questions[name, row] = samples.columns[question][place]
            if row in asked[name] | answered[name]:
                answers[name, row] = samples.columns[answer][place]
    return Examples(pictures=pictures, questions=questions, answers=answers)


def _columns(suite: SuiteConfig) -> Mapping[str, tuple[str, str]]:
    """Table → its columns of questions and answers."""
    return {
        table: (task.question, task.answer)
        for task in suite.tasks
        if isinstance(task, VqaConfig)
        for table in task.tables().values()
    }
