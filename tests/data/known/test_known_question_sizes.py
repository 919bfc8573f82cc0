"""Sets of questions at their published sizes: what is prepared of them can be judged."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from known_checks import picture

from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_check import check_tasks
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.tasks.vqa.zero_shot import VqaZeroShot
from meddistill.recipes.load import PACKAGED

# Questions of the published test splits, and answers: these make the prompts. There are as many questions to
# learn from as have all answers.
SIZES = {"vqa_rad": (451, 520), "slake": (1061, 222), "path_vqa": (6719, 4900), "vqa_med_2019": (500, 1700)}
FIELDS = (
    "image", "question", "answer", "answer_type", "question_type", "language", "modality", "patient", "split",
    "image_elsewhere",
)  # fmt: skip


def write_set(folder: Path, name: str) -> None:
    """A prepared set of the published size: no two questions alike, one image a split."""
    tested, answers = SIZES[name]
    counts = {"train": 2 * answers, "validation": 20, "test": tested}
    for number, split in enumerate(counts):
        for place in (folder / "data" / name, folder / "data" / "sources" / name):
            picture(place / f"{split}.png", number)
    with (folder / "data" / name / f"{name}.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(FIELDS)
        for split, count in counts.items():
            for row in range(count):
                closed = row % 2
                words = ("yes", "no")[row % 4 // 2] if closed else f"answer {row // 2 % answers}"
                writer.writerow(
                    (f"{split}.png", f"question {row} of {split}", words, "closed" if closed else "open",
                     "organ", "en", "", split, split, "no")
                )  # fmt: skip


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The families' suite as it comes along, its questions only, over tables of the published sizes."""
    folder = tmp_path_factory.mktemp("home")
    for name in SIZES:
        write_set(folder, name)
    content = yaml.safe_load((PACKAGED / "suites" / "mmkd_clip_families.yaml").read_text(encoding="utf-8"))
    content["tasks"] = [task for task in content["tasks"] if task["kind"].startswith("vqa")]
    return content, folder


def test_every_set_of_questions_can_be_judged_at_its_published_size(
    suite: tuple[dict[str, Any], Path],
) -> None:
    content, folder = suite
    config = SuiteConfig.model_validate(content)
    tables = SuiteTables(config, base=folder)
    check_tasks(config, tables)
    ranked = [task for task in config.tasks if task.kind == "vqa_zero_shot"]
    assert {task.name.removesuffix("_ranking") for task in ranked} == {*SIZES, "vqa_rad_new_images"}
    for named in ranked:
        task = build_task(named, tables.parts(named), SampleNames(folder, examples=False))
        assert isinstance(task, VqaZeroShot)
        assert task.prompts <= 100_000
        assert not task.candidates.left_out, "what the preparer writes fits without narrowing it further"
        without = named.model_copy(update={"max_candidates": None})
        free = build_task(without, tables.parts(named), SampleNames(folder, examples=False))
        free.check()
        assert named.max_candidates <= free.candidates.most
        assert 0.9 * 100_000 < free.prompts <= 100_000 or free.candidates.most == len(free.vocabulary)
