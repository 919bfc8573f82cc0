"""The demo's last step: DICOM files through the exported bundle, torch not needed."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.data import get_testdata_file
from rich.table import Table

from meddistill.cli.console import stdout_console
from meddistill.cli.embed import embed
from meddistill.data.phantom.dicom import Slice
from meddistill.data.phantom.prompts import MODALITY_TASK, prompts
from meddistill.imaging import ImageRef
from meddistill.runtime import Bundle, classify

_REAL = ("CT_small.dcm", "MR_small.dcm")


def classify_slices(bundle: Path, slices: Sequence[Slice]) -> None:
    """Print the class of each slice that the bundle finds likeliest, and the right answer beside it."""
    labels = list(prompts(MODALITY_TASK).values())
    results = classify(Bundle.open(bundle), [ImageRef(each.path) for each in slices], labels)
    right = sum(result.best == each.label for each, result in zip(slices, results, strict=True))
    table = Table("slice", "prediction", "probability", "right answer", "")
    table.columns[2].justify = "right"
    for each, result in zip(slices, results, strict=True):
        mark = "right" if result.best == each.label else "wrong"
        table.add_row(each.path.name, result.best, f"{result.scores[result.best]:.3f}", each.label, mark)
    print(f"\n{len(slices)} slices of test patients, procedural like all that the student was trained on,")
    print(f"written as DICOM files into {slices[0].path.parent} and classified by the exported bundle,")
    print(f"which chooses among {len(labels)} kinds of image:")
    stdout_console().print(table)
    print(f"{right} of {len(slices)} right.")


def embed_real_files(bundle: Path, output: Path) -> None:
    """Embed the real CT and MR slice that pydicom ships, to show that they are read."""
    print(
        "\nA real CT and a real MR slice, which pydicom ships, are read and embedded by the same bundle; they"
    )
    print("are not classified, for the student has seen procedural images only:")
    files = [get_testdata_file(name, download=False) for name in _REAL]
    embed(bundle, [Path(str(path)) for path in files], output=output)
