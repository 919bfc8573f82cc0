"""What every prepared set is held against: its tables are read, its suite fits the schema."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from meddistill.data.config import TableConfig
from meddistill.data.table import read_table
from meddistill.evaluation.engine.suite_config import SuiteConfig


def picture(path: Path, seed: int = 0, size: int = 8) -> Path:
    """A small colour picture, a different one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that was written."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, header: str, lines: list[tuple[Any, ...]], delimiter: str = ",") -> None:
    """A table as the authors of a set write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header.split(","))
        writer.writerows(lines)


def check_suite(folder: Path, *, pictures: bool = True) -> dict[str, Any]:
    """Every table of `suite.yaml` is read by the table reader; the known kinds of tasks fit the schema.

    Returns the suite as plain values.
    """
    content: dict[str, Any] = yaml.safe_load((folder / "suite.yaml").read_text(encoding="utf-8"))
    for table in content["tables"].values() if pictures else ():
        assert len(read_table(TableConfig(**table), base=folder)) > 0
    SuiteConfig.model_validate(content)
    return content


def kinds(content: dict[str, Any]) -> dict[str, str]:
    """Task → kind."""
    return {task["name"]: task["kind"] for task in content["tasks"]}
