"""Results as tidy tables for other tools, beside `results.json`.

- `results.parquet`, `results.csv`: one row a number, those of groups and their gaps too (`group`, `label`).
- `differences.csv`: one row a paired difference, with its tests.
- `comparisons.csv`: one row a pair of models over all tasks.

`seen` names the data sets of the task that the model, or one of the two, was pretrained on, with "; " between
them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel

from meddistill.evaluation.base.records import Comparison, GroupGap, GroupScore
from meddistill.evaluation.base.results import Difference, Result, Results
from meddistill.evaluation.statistics.stability import Beaten, RankAgreement, Spread, Stability
from meddistill.files import write_whole

GAP: Final = "gap of "
_BETWEEN: Final = "; "
_TYPES: Final[Mapping[type, pa.DataType]] = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
}


def write_exports(results: Results, folder: Path) -> tuple[Path, ...]:
    """Write the tables into a folder, each whole or not at all, and return their paths."""
    numbers = table_of(list(number_rows(results)), [Result, GroupScore], extra={"seen": str})
    pairs, tallies = _table(results.differences, Difference), _table(results.comparisons, Comparison)
    return (
        _write(folder / "results.parquet", _parquet(numbers)),
        _write(folder / "results.csv", _csv(numbers)),
        _write(folder / "differences.csv", _csv(pairs)),
        _write(folder / "comparisons.csv", _csv(tallies)),
    )


def write_stability(summary: Stability, folder: Path) -> tuple[Path, ...]:
    """Write `compare.json` and a CSV for each of its tables."""
    tables = {
        "scores": _table(summary.spreads, Spread),
        "beaten": _table(summary.beaten, Beaten),
        "agreement": _table(summary.agreement, RankAgreement),
    }
    return (
        _write(folder / "compare.json", summary.model_dump_json(indent=1).encode()),
        *(_write(folder / f"compare_{name}.csv", _csv(table)) for name, table in tables.items()),
    )


def number_rows(results: Results) -> Iterator[dict[str, Any]]:
    """Every number of the results with its flags."""
    roles = {model.name: model.role for model in results.models}
    for row in results.results:
        yield _plain({**row.model_dump(), "seen": results.seen(row.model, row.task)})
    for group in (*results.groups, *map(_gap_row, results.gaps)):
        content = {**group.model_dump(), "role": roles.get(group.model, "baseline"), "main": False}
        yield _plain({**content, "seen": results.seen(group.model, group.task)})


def _gap_row(gap: GroupGap) -> GroupScore:
    kept = gap.model_dump(exclude={"best", "worst", "labels", "metric"})
    return GroupScore(**kept, metric=f"{GAP}{gap.metric}", label="")


def _table(rows: Sequence[BaseModel], record: type[BaseModel]) -> pa.Table:
    """Records of one kind; a flag of either model is on a paired difference."""
    return table_of([_plain(row.model_dump()) for row in rows], [record])


def table_of(
    rows: Sequence[Mapping[str, Any]],
    records: Iterable[type[BaseModel]],
    *,
    extra: Mapping[str, type] | None = None,
) -> pa.Table:
    """A typed table, with columns even where there is no row; what a row lacks is null."""
    fields: dict[str, pa.DataType] = {}
    for record in records:
        for name, field in record.model_fields.items():
            fields.setdefault(name, _type(field.annotation))
    fields |= {name: _TYPES[kind] for name, kind in (extra or {}).items()}
    return pa.Table.from_pylist(list(rows), schema=pa.schema(list(fields.items())))


def _type(annotation: Any) -> pa.DataType:
    """Strings stand for all that is no number: literals and lists of names."""
    arguments = getattr(annotation, "__args__", ())
    kinds = {annotation, *arguments}
    return next((_TYPES[kind] for kind in (bool, float, int) if kind in kinds), pa.string())


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _BETWEEN.join(value) if isinstance(value, tuple | list) else value
        for name, value in row.items()
    }


def _csv(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pyarrow.csv.write_csv(table, buffer)
    return buffer.getvalue()


def _parquet(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> Path:
    write_whole(path, content)
    return path
