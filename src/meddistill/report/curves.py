"""A stage's training log, read for plotting."""

import json
import math
from pathlib import Path

from meddistill.report.data import Curves


def read_curves(path: Path, *, stage: str, method: str = "") -> Curves:
    """The curves of a `log.jsonl`; an absent file gives none, lines that are no records are passed over.

    Numbers that are not finite become gaps.
    """
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
                records.append((int(record["step"]), record))
            except (ValueError, KeyError, TypeError):
                continue
    names = sorted({name for _, record in records for name in record} - {"step"})
    series = {name: tuple(_number(record.get(name)) for _, record in records) for name in names}
    return Curves(stage=stage, method=method, steps=tuple(step for step, _ in records), series=series)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
