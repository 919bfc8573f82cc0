"""A small table of images and captions, a student, and one bundle of it that all tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_data import SECRET_CAPTION, SECRET_PATIENT, card
from PIL import Image

from made_once import made_once
from meddistill.bundle.config import BundleConfig, CardNotes, Int8Options
from meddistill.bundle.export import Origin, export_bundle
from meddistill.data.samples import Samples
from meddistill.evaluation.base.results import (
    MEAN_TASK,
    TEACHER_MEAN,
    AnyRole,
    ModelFacts,
    Result,
    Results,
    TaskFacts,
)
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig
from meddistill.imaging import ImageRef
from meddistill.licences import KNOWN
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The twelve of `samples`, then 36 small ones in colour; the last two captions differ in case alone."""
    folder = tmp_path_factory.mktemp("secret-folder")
    random = np.random.default_rng(0)
    refs = []
    for number in range(12):
        shape = (40 + 7 * number, 90 - 3 * number)
        if number % 3 == 0:
            pixels = random.integers(0, 60_000, shape, dtype=np.uint16)
        else:
            pixels = random.integers(0, 256, shape if number % 3 == 1 else (*shape, 3), dtype=np.uint8)
        path = folder / f"secret-{number}.png"
        Image.fromarray(pixels).save(path)
        refs.append(ImageRef(path))
    for number in range(12, 48):
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        path = folder / f"secret-{number}.png"
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        refs.append(ImageRef(path))
    texts = [f"{SECRET_CAPTION} number {number} " + "long " * (20 * number) for number in range(12)]
    texts += [f"{SECRET_CAPTION} number {number} " + "word " * (number % 5) for number in range(12, 47)]
    return Samples(refs=tuple(refs), texts=(*texts, texts[-1].upper()), patients=(SECRET_PATIENT,) * 48)


@pytest.fixture(scope="session")
def samples(many: Samples) -> Samples:
    """Twelve images of different sizes, grey and colour, 8 and 16 bits."""
    return many.take(range(12))


@pytest.fixture(scope="session")
def student() -> DualEncoder:
    return build_student(StudentConfig(preset="tiny"), base=Path(), seed=0)


@pytest.fixture(scope="session")
def origin() -> Origin:
    return Origin(
        name="demo student",
        policy="research",
        cards=(card("radiology", "MIT"), card("skin|pipe", "CC-BY-NC-4.0", modalities=("dermatology",))),
        data={"pairs": KNOWN["CC0-1.0"]},
        student=StudentConfig(preset="tiny"),
    )


@pytest.fixture(scope="session")
def prompts() -> list[ZeroShotConfig]:
    filled = {"normal": "no finding", "1": "pneumonia"}
    whole = {"a": ["one prompt", "another prompt"], "b": "b"}
    return [
        ZeroShotConfig(
            name="findings", kind="zero_shot", table="t", classes=filled, templates=["{c}", "x of {}"]
        ),
        ZeroShotConfig(name="whole", kind="zero_shot", table="t", classes=whole),
    ]


@pytest.fixture(scope="session")
def results() -> Results:
    def row(model: str, role: AnyRole, task: str, value: float | None, *, main: bool = True) -> Result:
        return Result(
            model=model,
            role=role,
            task=task,
            family="zero_shot",
            metric="balanced_accuracy",
            value=value,
            low=None if value is None else value - 0.05,
            high=None if value is None else value + 0.05,
            n=40,
            patients=20,
            seed=42,
            main=main,
            library="ours",
            note="" if value is not None else "no text tower",
        )

    models: list[tuple[str, AnyRole]] = [
        ("student", "student"),
        ("radiology", "teacher"),
        (TEACHER_MEAN, "ensemble"),
    ]
    values = {"student": 0.81234, "radiology": 0.7, TEACHER_MEAN: None}
    rows = [row(name, role, task, values[name]) for name, role in models for task in ("findings", MEAN_TASK)]
    return Results(
        suite="demo suite", suite_sha256="0" * 64, resamples=1000, seed=42, level=0.95, rule="", versions={},
        models=tuple(ModelFacts(name=n, role=r, fingerprint="f", has_text=True) for n, r in models),
        tasks=(
            TaskFacts(
                name="findings", family="zero_shot", main_metric="balanced_accuracy", n=40, patients=20,
                modalities={}, include_in_mean=True, sha256="",
            ),
        ),
        results=(*rows, row("student", "student", "findings", 0.5, main=False)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def bundle(
    tmp_path_factory: pytest.TempPathFactory,
    student: DualEncoder,
    many: Samples,
    origin: Origin,
    prompts: list[ZeroShotConfig],
    results: Results,
) -> Path:
    def make(folder: Path) -> None:
        options = BundleConfig(
            formats=("open_clip", "onnx", "onnx_int8"),
            int8=Int8Options(min_shared_neighbours=0.5, max_recall_loss=0.2),  # of random weights
            card=CardNotes(contact="someone@example.org", limitations="Only phantoms."),
        )
        before = torch.get_rng_state()
        place = folder / "bundle"
        export_bundle(
            student, place, origin=origin, samples=many, prompts=prompts, results=results, options=options
        )
        assert torch.equal(torch.get_rng_state(), before)

    return made_once(tmp_path_factory, "bundles", make) / "bundle"


@pytest.fixture(scope="session")
def bert_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer as transformers writes it."""
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "chest", "-", "ray"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    return folder
