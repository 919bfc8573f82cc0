"""Options that every verb with a recipe takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from meddistill.progress import Progress

Recipe = Annotated[
    Path,
    Parameter(
        help="The recipe, a YAML file; relative paths in it start at its folder. Or the name of one that "
        "comes along (mmkd_clip); its paths start at the working directory."
    ),
]
Overrides = Annotated[
    tuple[str, ...],
    Parameter(name="--set", help="Override a key: stages.0.epochs=5. May be given several times."),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a run goes and how it talks."""

    out: Annotated[
        Path | None,
        Parameter(
            help="Folder of all that is written. Without it: runs/<name of the recipe>, with --suite "
            "evaluations/<name of the suite>."
        ),
    ] = None
    overrides: Overrides = ()
    smoke: Annotated[bool, Parameter(negative="", help="Turn the recipe's own quick dial.")] = False
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False

    def progress(self) -> Progress:
        """Bars or lines, as asked."""
        from meddistill.cli.progress import make_progress

        return make_progress("quiet" if self.quiet else "normal")


DEFAULT_RUN = RunOptions()
