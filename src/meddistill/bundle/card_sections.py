"""The sections of a model card, each from what is known; what nobody told is said to be untold."""

from collections.abc import Iterable, Sequence
from typing import Final

from meddistill.bundle.config import CardNotes
from meddistill.bundle.licence_files import described
from meddistill.bundle.parity import Parity
from meddistill.bundle.truncation import CaptionLengths
from meddistill.bundle_format import LICENCES, Int8Comparison, Preprocessing
from meddistill.evaluation.base.results import MEAN_TASK, TEACHER_MEAN, Result, Results
from meddistill.licences import NOT_LEGAL_ADVICE, Policy
from meddistill.students.metadata import Provenance
from meddistill.students.size import ModelSize
from meddistill.teachers.card import TeacherCard

_UNTOLD: Final = "Not stated by the makers."
_SHORT_HASH: Final = 12


def banner(name: str, medical: Sequence[str]) -> str:
    """What it is, and what it is not; medical only if it learnt from images of `medical` modalities."""
    images = f" for medical images ({', '.join(medical)})" if medical else ""
    return (
        f"# {without_line_breaks(name)}\n\n"
        "> **For research use only.** This is not a medical device. It has not been cleared or approved for "
        "diagnosis, treatment or any other clinical use, and must not be deployed in patient care.\n\n"
        f"A small image-text model{images}, distilled from the frozen teachers below."
    )


def uses(notes: CardNotes) -> str:
    """Who may use it for what."""
    return (
        "## Uses\n\n"
        f"**Intended use and users.** {notes.intended_use or _UNTOLD}\n\n"
        f"**Modalities, anatomy, populations.** {notes.populations or _UNTOLD}\n\n"
        "**Direct use.** Zero-shot classification, image-text retrieval, and features for a linear probe, on "
        "data like that of the evaluation below.\n\n"
        "**Out of scope.** Any clinical decision; images of modalities or populations that are not "
        "evaluated below; scores read as probabilities of disease (they are not calibrated)."
    )


def how_to_use(parity: Parity | None) -> str:
    """The shortest code that runs."""
    onnx = (
        "\n\n```sh\n"
        "# with MedDistill installed; torch is not needed\n"
        'meddistill classify . image.png --labels "pneumonia, no finding"\n'
        "```"
    )
    return (
        "## How to use\n\n"
        "```python\n"
        "import open_clip\n"
        'model, _, preprocess = open_clip.create_model_and_transforms("local-dir:open_clip")\n'
        'tokenizer = open_clip.get_tokenizer("local-dir:open_clip")\n'
        "```" + ("" if parity is None else onnx)
    )


def teachers(cards: Sequence[TeacherCard]) -> str:
    """Who it learnt from, and under what terms."""
    if not cards:
        return "## Teachers\n\nNone: this model was trained without teachers."
    rows = [
        (
            card.id,
            f"{card.source} ({card.kind})",
            card.revision or f"sha256 {card.weights_sha256[:_SHORT_HASH]}",
            ", ".join(sorted(card.signals)).replace("_", " "),
            "all" if card.modalities is None else ", ".join(card.modalities),
            card.licence.name,
            "yes" if card.licence.gated else "no",
            card.licence.distillation.replace("_", "-"),
            ", ".join(card.pretraining_data) or "not recorded",
        )
        for card in cards
    ]
    header = (
        "teacher",
        "source",
        "revision",
        "gives",
        "modalities",
        "licence",
        "gated",
        "distillation",
        "trained on",
    )
    return "## Teachers\n\n" + table(header, rows)


def licence(provenance: Provenance, policy: Policy) -> str:
    """The student's licence, and how it came about."""
    joined = provenance.licence
    words = "; ".join(f"{what}: {answer}" for what, answer in described(joined))
    rows = [(name, terms.name) for name, terms in provenance.components.items()]
    origin = table(("component", "licence"), rows) if rows else "No component brings terms of others."
    return (
        "## Licence\n\n"
        f"**{without_line_breaks(joined.name)}**: {words}. "
        "The student inherits the strictest of its components' terms: those of its teachers, of its initial "
        f"weights and of its data. It was exported under the policy `{policy}`. Files: `{LICENCES}/`.\n\n"
        f"{origin}\n\n{NOT_LEGAL_ADVICE}"
    )


def data(provenance: Provenance, notes: CardNotes) -> str:
    """Training data and privacy."""
    rows = [(name, terms.name) for name, terms in provenance.data.items()]
    listed = (
        table(("data", "licence"), rows) if rows else "The licences of the training data are not recorded."
    )
    return (
        f"## Training data\n\n{listed}\n\n"
        f"**De-identification.** {notes.deidentification or _UNTOLD} This bundle holds no training images, "
        "no captions and no patient identifiers. What weights themselves may reveal of training data has "
        "not been tested.\n\n"
        "**Overlap with evaluation data.** Splits are by patient. Whether a teacher was itself trained on "
        "images of the evaluation is not known."
    )


def preprocessing(contract: Preprocessing, lengths: CaptionLengths | None) -> str:
    """What an image and a text go through."""
    spec, decode = contract.input, contract.decode
    window = f"centre {decode.window[0]:g}, width {decode.window[1]:g}" if decode.window else "the file's own"
    rows = [
        ("raster", f"{spec.height} x {spec.width} pixels, {spec.resize}, {spec.interpolation}, antialiased"),
        ("normalisation", f"(x / 255 - mean) / std, mean {_numbers(spec.mean)}, std {_numbers(spec.std)}"),
        (
            "window of deep images",
            f"{window}, else percentiles {decode.percentiles[0]:g} to {decode.percentiles[1]:g}",
        ),
        ("pixel spacing", "not used: images are resized without regard to millimetres"),
        ("texts", f"`{contract.text.normalizer}`, at most {contract.text.context_length} tokens"),
        ("training captions cut at that length", _truncation(lengths)),
    ]
    return "## Preprocessing contract\n\n" + table(("what", "how"), rows)


def metrics(results: Results | None) -> str:
    """Main metrics with intervals, the student beside its teachers."""
    if results is None or not results.named("student"):
        return (
            "## Evaluation\n\nThis model was exported without an evaluation. Nothing is known of its quality."
        )
    student = results.named("student")[0]
    tasks = [task.name for task in results.tasks]
    tasks += [MEAN_TASK] if results.main(student, MEAN_TASK) else []
    rows = [
        (
            task,
            row.metric,
            interval(row),
            interval(results.main(TEACHER_MEAN, task)),
            _best(results.best_teacher(task)),
            str(row.n or ""),
            str(row.patients or ""),
        )
        for task in tasks
        if (row := results.main(student, task)) is not None
    ]
    header = ("task", "metric", "student", "teacher mean", "best teacher", "n", "patients")
    return (
        f"## Evaluation\n\nSuite `{without_line_breaks(results.suite)}`. Intervals: {100 * results.level:g} "
        f"% of {results.resamples} bootstrap resamples of patients.\n\n" + table(header, rows) + "\n\n"
        "Calibration, subgroups and operating points are not part of this suite."
    )


def fidelity(results: Results | None, parity: Parity | None, int8: Int8Comparison | None) -> str:
    """How near it is to its teachers, and the exported files to it."""
    rows = [
        (row.teacher, row.measure, f"{row.value:.3f}", str(row.n))
        for row in (results.agreement if results else ())
        if row.modality == ""
    ]
    agreement = (
        table(("teacher", "measure", "agreement", "images"), rows) if rows else "Agreement was not measured."
    )
    exported = (
        "ONNX models are not part of this bundle."
        if parity is None
        else f"ONNX against the trained model, least cosine over {parity.images} images and "
        f"{parity.captions} texts: image {parity.image_cosine:.7f}, text {parity.text_cosine:.7f}, "
        f"from file to embedding {parity.file_cosine:.7f}."
    )
    quantized = "" if int8 is None else f"\n\n**Of the int8 files.** {_int8(int8)}"
    return (
        f"## Fidelity\n\n**To the teachers.** {_block(agreement)}\n\n**Of the exported files.** {exported}"
        + quantized
    )


def _int8(int8: Int8Comparison) -> str:
    left_out = f"Left out: {'; '.join(int8.left_out_because)}." if int8.left_out_because else ""
    if not int8.images:
        return left_out
    shares = {"image": int8.image_shared_neighbours, "text": int8.text_shared_neighbours}
    shared = ", ".join(f"{tower} {share:.3f}" for tower, share in shares.items() if share is not None)
    told = (
        f"Against the float towers, over {int8.images} images and {int8.texts} texts of the training data: "
        f"nearest neighbours in common: {shared}"
    )
    if int8.recall_float is not None and int8.recall_int8 is not None:
        told += f"; recall at rank 1, mean of both ways: {int8.recall_int8:.3f} of {int8.recall_float:.3f}"
    return f"{told}. {left_out}".rstrip()


def limits(notes: CardNotes, lengths: CaptionLengths | None, *, text_trained: bool) -> str:
    """Bias, risks, limitations."""
    points = [
        "The student inherits errors of its teachers, and biases of their training data.",
        "Shortcut learning (markers, devices, scanner make) and behaviour on other hospitals' images have "
        "not been tested unless the evaluation covers them.",
        "Zero-shot scores compare the given labels with one another: some label always wins.",
    ]
    if not text_trained:
        points.insert(
            0,
            "The student was trained on images alone; its text tower is untrained. Use its image "
            "embeddings; captions, prompts and zero-shot classes mean nothing to it.",
        )
    if lengths is not None and lengths.cut:
        points.append(f"Long reports are read in part only: {_truncation(lengths)}.")
    stated = f"{notes.limitations}\n\n" if notes.limitations else ""
    return f"## Bias, risks and limitations\n\n{stated}" + "\n".join(f"- {point}" for point in points)


def technical(size: ModelSize, embed_dim: int, contract: Preprocessing) -> str:
    """Size and shape."""
    rows = [
        ("parameters", f"{size.parameters:,}"),
        ("weights", f"{size.megabytes:.1f} MB"),
        ("embedding", f"{embed_dim} dimensions"),
        ("input", f"{contract.input.height} x {contract.input.width} pixels"),
    ]
    return "## Technical specifications\n\n" + table(("what", "value"), rows)


def upkeep(notes: CardNotes, version: str) -> str:
    """Compute, contact, version."""
    return (
        f"## Compute\n\n{notes.compute or _UNTOLD}\n\n"
        f"## Contact and version\n\n{notes.contact or _UNTOLD} Made with MedDistill {version}. "
        "`manifest.json` holds the sha256 of every file."
    )


def interval(row: Result | None) -> str:
    """`0.712 (0.690-0.731)`, or why there is no number."""
    if row is None:
        return "n/a"
    if row.value is None:
        return row.note or "n/a"
    if row.low is None or row.high is None:
        return f"{row.value:.3f}"
    return f"{row.value:.3f} ({row.low:.3f}-{row.high:.3f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; what could break a cell is taken out."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(without_line_breaks(cell).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )


def without_line_breaks(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())


def _best(row: Result | None) -> str:
    return "n/a" if row is None else f"{row.model} {interval(row)}"


def _truncation(lengths: CaptionLengths | None) -> str:
    if lengths is None:
        return "no captions were given"
    return (
        f"{100 * lengths.rate:.1f} % of {lengths.captions:,} ({lengths.cut:,} longer than "
        f"{lengths.context_length} tokens; median {lengths.median:g}, longest {lengths.longest})"
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _block(text: str) -> str:
    return f"\n\n{text}" if text.startswith("|") else text
