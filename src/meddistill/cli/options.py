"""Options that every verb with a recipe takes."""

import re
import shlex
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

_BETWEEN_VALUES = re.compile(r"[\s,:=\[\]{}'\"]+")


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
    smoke: Annotated[bool, Parameter(negative="", help="Run the recipe with its `smoke` section.")] = False
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False

    def progress(self) -> Progress:
        """Bars or lines, as asked."""
        from meddistill.cli.progress import make_progress

        return make_progress("quiet" if self.quiet else "normal")

    def repeating(self, recipe: Path) -> str | None:
        """The command that repeats a run of `recipe` with these options, from the same working directory.

        It goes into reports, so it holds no path of this machine: one below the working directory is made
        relative, of another `--out` the name is kept. None where the recipe is such a path or a
        value of `--set` holds one, also inside a mapping or a list.
        """
        recipe = _below_here(recipe)
        parts = [part for override in self.overrides for part in _BETWEEN_VALUES.split(override)]
        if any(path.is_absolute() for path in (recipe, *map(Path, parts))):
            return None
        words = ["meddistill", "run", str(recipe)]
        if self.out is not None:
            words += ["--out", out_for_others(self.out)]
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join([*words, *(["--smoke"] if self.smoke else [])])


def out_for_others(out: Path) -> str:
    """`--out` as a report may show it: relative, or the name alone."""
    out = _below_here(out)
    return out.name if out.is_absolute() else str(out)


def _below_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


DEFAULT_RUN = RunOptions()
