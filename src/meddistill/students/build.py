"""Building a student: seeded weights or initial ones, checked by one forward pass."""

from pathlib import Path
from typing import Final, Literal

import torch
from open_clip.factory import load_checkpoint
from open_clip.model import CustomTextCLIP, resize_pos_embed, set_model_preprocess_cfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer

from meddistill.errors import CheckpointError, ConfigError
from meddistill.licences import LicenceTerms, join, resolve
from meddistill.students.architecture import (
    SUBJECT,
    Architecture,
    architecture,
    preprocessing_of,
    resolve_path,
)
from meddistill.students.config import NO_WEIGHTS, StudentConfig
from meddistill.students.dual_encoder import INITIAL_LOGIT_SCALE, DualEncoder
from meddistill.students.metadata import METADATA_FILE, read_metadata
from meddistill.students.presets import ModelConfig
from meddistill.students.tokenisers import ClipTokeniser, HuggingFaceTokeniser, Tokeniser

WEIGHTS_FILE: Final = "open_clip_model.safetensors"
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_SHOWN: Final = 3
_IMAGE: Final = "visual."


def build_student(
    config: StudentConfig, *, base: Path, seed: int, tokenizer: Tokenizer | None = None
) -> DualEncoder:
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
        _require_safetensors(resolve_path(config.text.hf or "", base))
    resolved = architecture(config, base=base, trained=tokenizer)
    model = construct(resolved.model_config, seed=seed)
    student = assemble(model, resolved)
    if config.init != NO_WEIGHTS:
        _load_initial(student, resolve_path(config.init, base), towers=config.init_towers)
    _try_out(student)
    return student


def initial_licence(config: StudentConfig, *, base: Path) -> LicenceTerms | None:
    """The terms that initial weights bring along; None for a student that starts from nothing.

    Of `init`: `init_licence`, without it the folder's own metadata, without that `unknown`. Of pretrained
    text weights: `text.hf_licence`, without it `unknown`. Of both: their join.
    """
    terms = []
    if config.init != NO_WEIGHTS:
        terms.append(_licence_of_init(config, resolve_path(config.init, base)))
    if config.text.hf_weights == "pretrained":
        terms.append(resolve(config.text.hf_licence))
    return join(terms) if terms else None


def _licence_of_init(config: StudentConfig, folder: Path) -> LicenceTerms:
    if config.init_licence is None and (folder / METADATA_FILE).is_file():
        return read_metadata(folder).licence
    return resolve(config.init_licence)


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
            msg = f"The architecture must be one that open_clip can build; {_first_line(error)}"
            raise ConfigError(SUBJECT, [msg]) from error


def assemble(model: CustomTextCLIP, resolved: Architecture) -> DualEncoder:
    """Join an open_clip model with its preprocessing and tokenizer."""
    context_length = int(resolved.model_config["text_cfg"].get("context_length", 77))
    tokeniser: Tokeniser = ClipTokeniser(context_length)
    if isinstance(resolved.tokenizer, Tokenizer):
        tokeniser = HuggingFaceTokeniser.trained(resolved.tokenizer, context_length)
    elif resolved.tokenizer is not None:
        tokeniser = HuggingFaceTokeniser(resolved.tokenizer, context_length)
    size = (resolved.spec.height, resolved.spec.width)
    set_model_preprocess_cfg(model, {"size": size, **preprocessing_of(resolved.spec)})
    return DualEncoder(model, model_config=resolved.model_config, spec=resolved.spec, tokeniser=tokeniser)


def _load_initial(student: DualEncoder, folder: Path, *, towers: Literal["both", "image"]) -> None:
    weights = _require_safetensors(folder)
    try:
        if towers == "image":
            _load_image_tower(student, weights)
        else:
            # open_clip's loader also resizes position tables to another image size or context length.
            load_checkpoint(student.model, str(weights), strict=True)
    except (SafetensorError, OSError) as error:
        msg = f"`init` must hold undamaged safetensors; got {weights}. {_first_line(error)}"
        raise CheckpointError(msg) from error
    except RuntimeError as error:
        differences = str(error).splitlines()[1 : 1 + _SHOWN]
        msg = (
            f"`init` must hold weights of the student's architecture; got others in {folder}: "
            f"{' '.join(line.strip() for line in differences)} Leave out the preset to take the folder's own."
        )
        raise CheckpointError(msg) from error


def _load_image_tower(student: DualEncoder, weights: Path) -> None:
    state = {name: value for name, value in load_file(weights).items() if name.startswith(_IMAGE)}
    resize_pos_embed(state, student.model)
    tower = {name.removeprefix(_IMAGE): value for name, value in state.items()}
    student.model.visual.load_state_dict(tower, strict=True)


def _require_safetensors(folder: Path) -> Path:
    """The folder's safetensors file. Pickles are refused unread: unpickling runs code."""
    named = folder / WEIGHTS_FILE
    found = [named] if named.is_file() else sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
    if pickles and not found:
        msg = (
            f"`init` must hold safetensors; got {', '.join(pickles)} in {folder}, which can run code when "
            "read. Convert it where you trust it: safetensors.torch.save_file(torch.load(…, "
            'weights_only=True), "open_clip_model.safetensors").'
        )
    else:
        msg = (
            f"`init` must be a folder with one safetensors file; got {len(found)} in {folder}. "
            f"Name a folder that holds {WEIGHTS_FILE}."
        )
    raise CheckpointError(msg)


@torch.no_grad()
def _try_out(student: DualEncoder) -> None:
    spec = student.input
    rasters = torch.zeros(2, spec.height, spec.width, 3, dtype=torch.uint8)
    student.eval()
    try:
        outputs = student(rasters, student.tokenise(["", "a"]))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        msg = (
            f"The towers must run at image size {spec.height} x {spec.width}; {_first_line(error)}. timm's "
            "vision transformers take their own size only; towers of convolutions and open_clip's ViTs adapt."
        )
        raise ConfigError(SUBJECT, [msg]) from error
    student.train()
    widths = outputs.image.shape[1], outputs.text.shape[1]
    if widths != (student.embed_dim, student.embed_dim):
        msg = (
            f"`embed_dim` must be the width of both towers' outputs; got {student.embed_dim} against "
            f"{widths[0]} (image) and {widths[1]} (text). Set `embed_dim` to one that both give."
        )
        raise ConfigError(SUBJECT, [msg])


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
