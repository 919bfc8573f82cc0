"""`meddistill demo`."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

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
    from meddistill.cli.classify import classify
    from meddistill.cli.options import RunOptions
    from meddistill.cli.running import run_until
    from meddistill.data.phantom.config import PhantomConfig
    from meddistill.recipes.demo import SPECIALISTS, prepare_demo
    from meddistill.recipes.load import load_recipe
    from meddistill.recipes.pipeline import run_recipe

    started = time.monotonic()
    options = RunOptions(out=out, smoke=smoke, quiet=quiet)
    progress = options.progress()
    folder = prepare_demo(out, PhantomConfig(samples=samples, seed=seed), progress=progress)
    for place, name in enumerate(SPECIALISTS):
        progress.say(f"specialist {place + 1} of {len(SPECIALISTS)}: {name}")
        overrides = folder.overrides(name, seed=seed + place + 1)
        specialist = load_recipe(folder.specialist, overrides=overrides, smoke=smoke, base=out)
        run_recipe(specialist, folder.teacher(name), until="train", progress=progress)
    progress.say("the student")
    session = run_until(folder.student, options, until="report")
    images = _dicom_files()
    bundle = session.folder.bundle
    print("\nTwo DICOM files that pydicom ships, a CT and an MR slice, classified by the exported bundle.")
    print("The student has seen drawings only: what this shows is the way, not the answer.")
    labels = ", ".join(_modality_labels())
    classify(bundle, images, labels=labels)
    print(f"\nDone in {time.monotonic() - started:.0f} s. What to try next:")
    example = os.path.relpath(images[0])
    for command in (
        f"run {folder.student} --out runs/longer --set stages.1.epochs=30",
        f'classify {bundle} {example} --labels "CT scan, chest radiograph, skin photograph"',
        f"check {folder.student}",
    ):
        print(f"  {_program()} {command}")


def _program() -> str:
    """How a shell finds this program: by name, or in an environment that is not activated by its path."""
    beside = Path(sys.executable).with_name("meddistill")
    return os.path.relpath(beside) if beside.exists() and shutil.which("meddistill") is None else "meddistill"


def _dicom_files() -> list[Path]:
    from pydicom.data import get_testdata_file

    found = [get_testdata_file(name, download=False) for name in ("CT_small.dcm", "MR_small.dcm")]
    return [Path(str(path)) for path in found]


def _modality_labels() -> list[str]:
    from meddistill.data.phantom.prompts import MODALITY_TASK, prompts

    return list(prompts(MODALITY_TASK).values())
