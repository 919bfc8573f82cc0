"""`meddistill compare RESULTS…`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

ResultFolders = Annotated[
    tuple[Path, ...],
    Parameter(
        help="Two or more folders with a results.json, those files, or run folders: the same suite, other "
        "seeds of the student."
    ),
]


def compare(
    results: ResultFolders,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder for compare.json and CSV tables.")] = None,
) -> None:
    """How far scores and the order of models depend on the seed."""
    from meddistill.cli.compare_tables import print_stability
    from meddistill.errors import ConfigError
    from meddistill.evaluation.base.results import RESULTS_FILE, Results
    from meddistill.evaluation.engine.export import write_stability
    from meddistill.evaluation.statistics.stability import stability

    runs: dict[str, Results] = {}
    for place in results:
        folder = place.parent if place.name == RESULTS_FILE else place
        inside = folder / "evaluation"
        there = inside if (inside / RESULTS_FILE).is_file() else folder
        if str(place) in runs:
            rule = f"`results` must each be named once; got {place} again. Leave it out."
            subject = "compare"
            raise ConfigError(subject, [rule])
        runs[str(place)] = Results.load(there)
    summary = stability(runs)
    print_stability(summary)
    if out is not None:
        for path in write_stability(summary, out):
            print(f"wrote: {path}")
