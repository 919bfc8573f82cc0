"""Building a student: seeded weights or initial ones, checked by one forward pass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from open_clip.model import CustomTextCLIP, set_model_preprocess_cfg
from tokenizers import Tokenizer

from meddistill.errors import ConfigError, first_line
from meddistill.students.architecture import SUBJECT, Architecture, architecture, preprocessing_of
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import INITIAL_LOGIT_SCALE, DualEncoder
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.initial.start import Taken, take_weights
from meddistill.students.paths import resolve_path
from meddistill.students.presets import ModelConfig
from meddistill.students.tokenizers import CaptionTokenizer, ClipTokenizer, HuggingFaceTokenizer

_OF_TRANSFORMERS: Final = ("model.safetensors",)


@dataclass(frozen=True, kw_only=True)
class BuiltStudent:
    """A student before its first step, and what it took from `init`; None where it starts from nothing."""

    student: DualEncoder
    taken: Taken | None


def build_student(
    config: StudentConfig, *, base: Path, seed: int, tokenizer: Tokenizer | None = None
) -> DualEncoder:
    """The student of `start_student`, without the account of its initial weights."""
    return start_student(config, base=base, seed=seed, tokenizer=tokenizer).student


def start_student(
    config: StudentConfig, *, base: Path, seed: int, tokenizer: Tokenizer | None = None
) -> BuiltStudent:
    """Build the student that a recipe describes, on the CPU, in training mode.

    The weights depend on `config`, `seed` and the size of the vocabulary only; the global random state is
    left as it was. One forward pass shows that the towers accept the image size and agree on the embedding's
    dimension.

    Parameters
    ----------
    config
        The recipe's `student`.
    base
        The recipe's folder; relative paths start there.
    seed
        Of the random weights.
    tokenizer
        Of `train_tokenizer`, where `text.vocabulary` wants one of its own.

    Raises
    ------
    ConfigError
        If the architecture cannot be built or does not run at its image size.
    CheckpointError
        If the initial weights are absent, a pickle, damaged, or of another architecture.
    """
    if config.text.hf_weights == "pretrained":
        # transformers would unpickle what is no safetensors.
        ModelFolder.read(resolve_path(config.text.hf or "", base), key="text.hf").weights(_OF_TRANSFORMERS)
    resolved = architecture(config, base=base, trained=tokenizer)
    model = construct(resolved.model_config, seed=seed)
    student = assemble(model, resolved)
    taken = None
    if resolved.start is not None:
        taken = take_weights(student.model, resolved.start, towers=config.init_towers)
    _try_out(student)
    return BuiltStudent(student=student, taken=taken)


def construct(model_config: ModelConfig, *, seed: int) -> CustomTextCLIP:
    """The open_clip model with seeded weights, as stock open_clip builds it from the same configuration.

    Raises
    ------
    ConfigError
        If open_clip, timm or transformers refuse the configuration.
    """
    arguments = {key: value for key, value in model_config.items() if key != "custom_text"}
    arguments.setdefault("init_logit_scale", INITIAL_LOGIT_SCALE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return CustomTextCLIP(**arguments)
        except (AssertionError, OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
            msg = f"The architecture must be one that open_clip can build; {first_line(error)}"
            raise ConfigError(SUBJECT, [msg]) from error


def assemble(model: CustomTextCLIP, resolved: Architecture) -> DualEncoder:
    """Join an open_clip model with its preprocessing and tokenizer."""
    context_length = int(resolved.model_config["text_cfg"].get("context_length", 77))
    tokenizer: CaptionTokenizer = ClipTokenizer(context_length)
    if isinstance(resolved.tokenizer, Tokenizer):
        tokenizer = HuggingFaceTokenizer.trained(resolved.tokenizer, context_length)
    elif resolved.tokenizer is not None:
        tokenizer = HuggingFaceTokenizer(resolved.tokenizer, context_length)
    size = (resolved.spec.height, resolved.spec.width)
    set_model_preprocess_cfg(model, {"size": size, **preprocessing_of(resolved.spec)})
    return DualEncoder(model, model_config=resolved.model_config, spec=resolved.spec, tokenizer=tokenizer)


@torch.no_grad()
def _try_out(student: DualEncoder) -> None:
    spec = student.input
    rasters = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    student.eval()
    try:
        images = student.embed_images(rasters)
        texts = student.embed_tokens(student.tokenize(["", "a"]))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        msg = (
            f"The towers must run at image size {spec.height} x {spec.width}; {first_line(error)}. timm's "
            "vision transformers take their own size only; towers of convolutions and open_clip's ViTs adapt."
        )
        raise ConfigError(SUBJECT, [msg]) from error
    student.train()
    widths = images.shape[1], texts.shape[1]
    if widths != (student.embed_dim, student.embed_dim):
        msg = (
            f"`embed_dim` must be the width of both towers' outputs; got {student.embed_dim} against "
            f"{widths[0]} (image) and {widths[1]} (text). Set `embed_dim` to one that both give."
        )
        raise ConfigError(SUBJECT, [msg])
