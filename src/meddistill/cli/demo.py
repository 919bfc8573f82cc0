"""`meddistill demo`."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

if TYPE_CHECKING:
    from meddistill.data.phantom.config import PhantomConfig
    from meddistill.recipes.session import Session

MIN_SAMPLES = 360  # fewer leave a finding task without a test image


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder of the demo.")] = Path("runs/demo"),
    samples: Annotated[
        int, Parameter(help="Procedural images to draw.", validator=validators.Number(gte=MIN_SAMPLES))
    ] = 1800,
    seed: Annotated[int, Parameter(help="Of the images and of every training.")] = 0,
    smoke: Annotated[bool, Parameter(negative="", help="One epoch a stage: quick, and no use.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="Plain lines instead of progress bars.")] = False,
) -> None:
    """Draw images, train three specialists, distil one student, evaluate, report, export, and use it."""
    from meddistill.cli.demo_slices import classify_slices, embed_real_files
    from meddistill.cli.options import RunOptions
    from meddistill.cli.running import run_until
    from meddistill.data.phantom.config import PhantomConfig
    from meddistill.data.phantom.dicom import write_test_slices
    from meddistill.recipes.demo import prepare_demo

    started = time.monotonic()
    options = RunOptions(out=out, smoke=smoke, quiet=quiet)
    progress = options.progress()
    phantom = PhantomConfig(samples=samples, seed=seed)
    recipe = prepare_demo(out, phantom, progress=progress)
    session = run_until(recipe, options, until="report", command=_repeating(out, phantom, smoke=smoke))
    _print_sizes(session)
    bundle, slices = session.folder.bundle, write_test_slices(out / "slices", phantom)
    classify_slices(bundle, slices)
    embed_real_files(bundle, out / "real_slices.npy")
    if smoke:
        print("\nA smoke run: one epoch a stage, its scores mean nothing. `demo` alone takes three minutes.")
    print(f"\nDone in {time.monotonic() - started:.0f} s. What to try next:")
    example = os.path.relpath(slices[0].path)
    for command in (
        f"run {recipe} --out {out} --set stages.1.epochs=30",
        f'classify {bundle} {example} --labels "chest X-ray, abdominal CT, brain MRI"',
        f"check {recipe}",
    ):
        print(f"  {_program()} {command}")


def _print_sizes(session: "Session") -> None:
    """The student's parameters beside each teacher's."""
    from meddistill.report.formatting import large
    from meddistill.students.size import model_size

    mine = model_size(session.student).parameters
    sizes = {name: teacher.card.parameters for name, teacher in session.teachers.items()}
    others = (
        f"{name} {large(size)} (student {mine / size:.0%} of it)" for name, size in sizes.items() if size
    )
    print(f"\nParameters: student {large(mine)}; {'; '.join(others)}.")


def _repeating(out: Path, phantom: "PhantomConfig", *, smoke: bool) -> str:
    """The command that repeats the demo, for its report."""
    from meddistill.cli.options import out_for_others

    words = ["meddistill", "demo", "--out", out_for_others(out)]
    words += ["--samples", str(phantom.samples), "--seed", str(phantom.seed)]
    return shlex.join([*words, *(["--smoke"] if smoke else [])])


def _program() -> str:
    """How a shell finds this program: by name, or in an environment that is not activated by its path."""
    beside = Path(sys.executable).with_name("meddistill")
    return os.path.relpath(beside) if beside.exists() and shutil.which("meddistill") is None else "meddistill"
