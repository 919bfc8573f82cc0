"""From a trained student to a bundle: written aside, compared with the student, then put in place."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import meddistill
from meddistill.bundle.card import CardFacts, write_card
from meddistill.bundle.config import BundleConfig
from meddistill.bundle.int8 import add_int8
from meddistill.bundle.licence_files import write_licences
from meddistill.bundle.manifest import records_of, write_json
from meddistill.bundle.onnx_export import export_towers
from meddistill.bundle.parity import Parity, check_parity
from meddistill.bundle.prompts import write_prompts
from meddistill.bundle.tokenizer import write_tokenizer
from meddistill.bundle.truncation import caption_lengths
from meddistill.bundle_format import (
    FORMAT,
    MANIFEST,
    METRICS,
    OPEN_CLIP,
    PARITY,
    PREPROCESSING,
    TOKENIZER,
    VERSION,
    Int8Comparison,
    Manifest,
    Preprocessing,
    TextPreprocessing,
)
from meddistill.data.modalities import medical_modalities
from meddistill.data.samples import Samples
from meddistill.errors import BundleError
from meddistill.evaluation.base.results import Result, Results
from meddistill.evaluation.tasks.classification.config import ZeroShotConfig
from meddistill.files import folder_aside, needing_room
from meddistill.licences import LicenceTerms, Policy, enforce
from meddistill.strict import Strict
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import save_student
from meddistill.students.metadata import Provenance, TeacherCredit
from meddistill.students.size import model_size
from meddistill.teachers.card import TeacherCard


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the student comes from: all whose terms it inherits, and the policy that they must meet."""

    name: str
    policy: Policy
    cards: tuple[TeacherCard, ...] = ()
    initial_weights: LicenceTerms | None = None
    data: Mapping[str, LicenceTerms] = field(default_factory=dict)
    student: StudentConfig | None = None
    text_trained: bool = True

    @property
    def provenance(self) -> Provenance:
        """The part that travels with the weights."""
        return Provenance(
            name=self.name,
            text_trained=self.text_trained,
            teachers=tuple(TeacherCredit.of(card) for card in self.cards),
            initial_weights=self.initial_weights,
            data=self.data,
        )


class Metrics(Strict):
    """`evaluation/metrics.json`: main metrics only, and nothing of single images or patients."""

    format: Literal["meddistill-metrics"] = "meddistill-metrics"
    suite: str
    suite_sha256: str
    level: float
    resamples: int
    results: tuple[Result, ...]


@dataclass(frozen=True, kw_only=True)
class _Models:
    """What was found of the exported models; None for those that were not asked for."""

    parity: Parity | None = None
    int8: Int8Comparison | None = None


def export_bundle(
    student: DualEncoder,
    folder: Path,
    *,
    origin: Origin,
    samples: Samples,
    prompts: Sequence[ZeroShotConfig] = (),
    results: Results | None = None,
    options: BundleConfig = BundleConfig(),  # noqa: B008 - frozen
) -> Manifest:
    """Write the bundle of a student, or nothing: an earlier bundle stays as it was if anything refuses.

    Parameters
    ----------
    student
        On any device, in any mode; it is copied and left as it is.
    folder
        A folder that does not exist, is empty, or holds a bundle, which is replaced.
    origin
        Teachers, initial weights and data, and the policy for their licences.
    samples
        Training rows to compare on: images, captions and how images are decoded. None enters the bundle.
    prompts
        Zero-shot tasks whose class vectors are to be in the bundle.
    results
        An evaluation, for the card.
    options
        Formats, what int8 towers must keep (else they are left out), and what only the makers know.

    Raises
    ------
    LicenceError, ParityError
        If the policy refuses a component; if an exported model differs from the student.
    BundleError
        If `folder` holds something else, has no room, or a tower cannot be exported.
    """
    licence = enforce(origin.policy, origin.provenance.components, gate="export")
    _refuse_other_files(folder)
    exported = copy.deepcopy(student).cpu().eval()
    with needing_room(folder, BundleError), folder_aside(folder) as partial:
        preprocessing = _write_contract(exported, partial, samples)
        models = _write_models(exported, partial, origin=origin, samples=samples, options=options)
        write_prompts(exported, partial, tasks=prompts if origin.text_trained else ())
        facts = CardFacts(
            provenance=origin.provenance,
            cards=origin.cards,
            policy=origin.policy,
            preprocessing=preprocessing,
            size=model_size(exported),
            embed_dim=exported.embed_dim,
            lengths=caption_lengths(exported.tokenizer, samples.captions),
            parity=models.parity,
            int8=models.int8,
            results=results,
            notes=options.card,
            medical=medical_modalities(samples.modalities),
        )
        _write_words(partial, facts)
        return _write_manifest(exported, partial, origin=origin, licence=licence, int8=models.int8)


def _refuse_other_files(folder: Path) -> None:
    occupied = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    if occupied and not (folder / MANIFEST).is_file():
        msg = f"`folder` must be empty or hold a bundle; got {folder} with other files. Choose another place."
        raise BundleError(msg)


def _write_contract(student: DualEncoder, folder: Path, samples: Samples) -> Preprocessing:
    contract = Preprocessing(
        input=student.input,
        decode=samples.options,
        text=TextPreprocessing(normalizer="open_clip_lower", context_length=student.context_length),
    )
    write_json(contract, folder / PREPROCESSING)
    write_tokenizer(student.tokenizer, folder / TOKENIZER)
    return contract


def _write_models(
    student: DualEncoder,
    folder: Path,
    *,
    origin: Origin,
    samples: Samples,
    options: BundleConfig,
) -> _Models:
    if "open_clip" in options.formats:
        save_student(student, folder / OPEN_CLIP, provenance=origin.provenance, config=origin.student)
    if "onnx" not in options.formats:
        return _Models()
    metadata = {
        "preprocessing": (folder / PREPROCESSING).read_text(encoding="utf-8"),
        "licence": origin.provenance.licence.model_dump_json(),
        "logit_scale": repr(float(student.logit_scale.detach())),
        "embed_dim": str(student.embed_dim),
        "context_length": str(student.context_length),
        "created_with": f"meddistill {meddistill.__version__}",
    }
    export_towers(student, folder, metadata=metadata)
    parity = check_parity(student, folder, samples=samples)
    write_json(parity, folder / PARITY)
    if "onnx_int8" not in options.formats:
        return _Models(parity=parity)
    int8 = add_int8(student, folder, samples=samples, options=options.int8, text_trained=origin.text_trained)
    return _Models(parity=parity, int8=int8)


def _write_words(folder: Path, facts: CardFacts) -> None:
    write_licences(folder, components=facts.provenance.components, joined=facts.licence)
    write_card(folder, facts)
    if facts.results is not None:
        results = facts.results
        metrics = Metrics(
            suite=results.suite,
            suite_sha256=results.suite_sha256,
            level=results.level,
            resamples=results.resamples,
            results=tuple(row for row in results.results if row.main),
        )
        write_json(metrics, folder / METRICS)


def _write_manifest(
    student: DualEncoder,
    folder: Path,
    *,
    origin: Origin,
    licence: LicenceTerms,
    int8: Int8Comparison | None,
) -> Manifest:
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        kind="dual_encoder",
        name=origin.name,
        text_trained=origin.text_trained,
        files=records_of(folder),
        logit_scale=float(student.logit_scale.detach()),
        embed_dim=student.embed_dim,
        context_length=student.context_length,
        int8=int8,
        licence=licence,
        created_with=f"meddistill {meddistill.__version__}",
    )
    write_json(manifest, folder / MANIFEST)
    return manifest
