"""From the student's configuration to one open_clip model configuration, without building anything."""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

import open_clip
import timm
from tokenizers import Tokenizer

from meddistill.errors import ConfigError, did_you_mean
from meddistill.file_kinds import why_not_json
from meddistill.imaging.geometry import InputSpec, Interpolation, Resize
from meddistill.students.config import DEFAULT_PRESET, NO_WEIGHTS, StudentConfig
from meddistill.students.initial.clip_folder import TOKENIZERS
from meddistill.students.initial.matching import adopt_towers
from meddistill.students.initial.read import read_start
from meddistill.students.initial.start import Preprocessing, Start
from meddistill.students.paths import resolve_path
from meddistill.students.presets import ModelConfig, bert_text, clip_text, preset, timm_tower
from meddistill.students.vocabulary import END, PADDING

SUBJECT: Final = "student"
TEXT_FOLDER: Final = "text_tower"
_RESIZE_OF: Final[dict[str, Resize]] = {"squash": "squash", "shortest": "crop", "longest": "pad"}
_MODE_OF: Final[dict[Resize, str]] = {ours: theirs for theirs, ours in _RESIZE_OF.items()}
_DEFAULT_RESIZE: Final[Resize] = "squash"
_CLEAN_AS_OURS: Final = {"clean": "lower"}
_SUGGESTIONS: Final = 3
# What stands beside an image tower that comes alone.
_BESIDE: Final[ModelConfig] = {"embed_dim": 512, "text_cfg": clip_text(width=256, heads=4, layers=10)}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A complete open_clip `model_cfg` and the preprocessing that goes with it.

    `tokenizer` is where a Hugging Face tokenizer comes from, or a trained one; None for CLIP's own. `start`
    is the folder of the initial weights.
    """

    model_config: ModelConfig
    spec: InputSpec
    tokenizer: str | Tokenizer | None
    start: Start | None = None


def architecture(config: StudentConfig, *, base: Path, trained: Tokenizer | None = None) -> Architecture:
    """Resolve preset, open_clip configuration or timm tower, and then the overrides.

    Parameters
    ----------
    config
        The recipe's `student`.
    base
        The recipe's folder; relative paths start there.
    trained
        The tokenizer of `text.vocabulary`.

    Raises
    ------
    ConfigError
        If a name is not known, a file is missing or is no configuration, the text tower needs files that
        nobody named, or a vocabulary that it cannot take.
    CheckpointError
        If `init` is no folder of a model, or one of another architecture than is named.
    """
    start = None if config.init == NO_WEIGHTS else read_start(resolve_path(config.init, base))
    if (
        start is not None
        and config.text.vocabulary is not None
        and start.towers(config.init_towers) == "both"
    ):
        _refuse(
            "`text.vocabulary` must be absent where `init` brings a text tower with tokens of its own; got "
            f"{config.text.vocabulary}. Leave it out, or start the image tower alone: `init_towers: image`."
        )
    model_config, preprocessing = _source(config, base, start)
    if "multimodal_cfg" in model_config:
        _refuse("`open_clip` must name a dual encoder; got a CoCa configuration. Choose a CLIP.")
    _override(model_config, config, start)
    if start is not None and any((config.preset, config.image_tower, config.open_clip)):
        adopt_towers(model_config, start, towers=config.init_towers)
    tokenizer = _tokenizer(model_config, config, base=base, trained=trained)
    # The towers alone decide the class that stock open_clip builds, see `DualEncoder`.
    model_config["custom_text"] = True
    spec = _input_spec(model_config, preprocessing, config)
    return Architecture(model_config=model_config, spec=spec, tokenizer=tokenizer, start=start)


def preprocessing_of(spec: InputSpec) -> Preprocessing:
    """The `preprocess_cfg` by which stock open_clip prepares images as `spec` says."""
    return {
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation,
        "resize_mode": _MODE_OF[spec.resize],
    }


def _source(config: StudentConfig, base: Path, start: Start | None) -> tuple[ModelConfig, Preprocessing]:
    """The configuration before overrides; initial weights bring the normalisation they were trained with."""
    preprocessing = {} if start is None else start.preprocessing
    if config.preset is not None:
        return preset(config.preset), preprocessing
    if config.image_tower is not None:
        own_size = None if start is None else start.vision["image_size"]
        return _from_image_tower(config.image_tower, config.image_size or own_size), preprocessing
    if config.open_clip is not None:
        model_config, own = _from_open_clip(config.open_clip, base)
        return model_config, preprocessing or own
    if start is None:
        return preset(DEFAULT_PRESET), preprocessing
    return _own_of(start), preprocessing


def _own_of(start: Start) -> ModelConfig:
    """The folder's architecture; beside an image tower alone, the small text tower of `image_tower`."""
    own: ModelConfig = deepcopy({**_BESIDE, **start.common, "vision_cfg": start.vision})
    return own if start.text is None else {**own, "text_cfg": deepcopy(start.text)}


def _read_model_config(path: Path) -> tuple[ModelConfig, Preprocessing]:
    """`model_cfg` and `preprocess_cfg` of an open_clip JSON file; a bare `model_cfg` will do."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        _refuse(f"`open_clip` must be a readable JSON file; `{path}` is {why_not_json(path, error)}")
    if not isinstance(content, dict):
        _refuse(f"`open_clip` must hold a JSON object; got a {type(content).__name__} in {path}.")
    model_config = content.get("model_cfg", content)
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model_config]
    if missing:
        _refuse(f"`open_clip` must be an open_clip configuration; {path} lacks {', '.join(missing)}.")
    return model_config, content.get("preprocess_cfg", {})


def _from_open_clip(name: str, base: Path) -> tuple[ModelConfig, Preprocessing]:
    path = resolve_path(name, base)
    if name.endswith(".json") or path.is_file():
        return _read_model_config(path)
    model_config = open_clip.get_model_config(name.replace("/", "-")) if ":" not in name else None
    if model_config is None:
        _refuse(
            f"`open_clip` must be a configuration that open_clip knows or a JSON file; got {name!r}."
            + did_you_mean(name, open_clip.list_models(), most=_SUGGESTIONS)
        )
    return model_config, {}


def _from_image_tower(name: str, image_size: int | list[int] | None) -> ModelConfig:
    if not timm.is_model(name):
        _refuse(
            f"`image_tower` must be a model that timm knows; got {name!r}."
            + did_you_mean(name, timm.list_models(), most=_SUGGESTIONS)
        )
    published = timm.get_pretrained_cfg(name, allow_unregistered=True)
    size = image_size or (published.input_size[-1] if published is not None else 224)
    return {**deepcopy(_BESIDE), "vision_cfg": timm_tower(name, image_size=size)}


def _override(model_config: ModelConfig, config: StudentConfig, start: Start | None) -> None:
    if config.embed_dim is not None:
        model_config["embed_dim"] = config.embed_dim
    if config.image_size is not None:
        model_config["vision_cfg"]["image_size"] = config.image_size
    if "timm_model_name" in model_config["vision_cfg"]:
        model_config["vision_cfg"]["timm_model_pretrained"] = False
    if config.text.hf is not None and "hf_model_name" not in model_config["text_cfg"]:
        model_config["text_cfg"] = bert_text()
    asked = config.text.model_dump(
        exclude={"hf", "hf_weights", "hf_licence", "vocabulary"}, exclude_none=True
    )
    model_config["text_cfg"].update(asked)
    if start is None or start.towers(config.init_towers) == "image":
        # A fresh student starts at CLIP's temperature and without a bias, whatever the configuration's
        # published weights were trained with.
        model_config.pop("init_logit_scale", None)
        model_config.pop("init_logit_bias", None)


def _tokenizer(
    model_config: ModelConfig, config: StudentConfig, *, base: Path, trained: Tokenizer | None
) -> str | Tokenizer | None:
    """Fit the text tower to its tokenizer and point it at its files; return where the tokenizer is."""
    text = model_config["text_cfg"]
    text.pop("tokenizer_kwargs", None)
    text.pop("tokenizer_mode", None)
    if config.text.vocabulary is not None:
        return _trained_tokenizer(text, config, trained)
    if not any(key in text for key in ("hf_model_name", "hf_tokenizer_name")):
        return None
    tower, tokenizer = _hf_sources(text, config, base)
    if not tower or not tokenizer:
        _refuse(
            "`text.hf` must be a folder with the configuration and tokenizer of a Hugging Face text model "
            "(config.json, tokenizer.json, tokenizer_config.json), or a hub id; got nothing. The preset "
            "`base` has a BERT-like text tower, whose files do not come with MedDistill: name, for example, "
            "a copy of BiomedBERT."
        )
    if "hf_model_name" in text:
        text["hf_model_name"] = tower
        text["hf_model_pretrained"] = config.text.hf_weights == "pretrained"
    text["hf_tokenizer_name"] = tokenizer
    # Stock open_clip would keep the case of captions; this makes it clean them as `normalize_text` does.
    text["tokenizer_kwargs"] = dict(_CLEAN_AS_OURS)
    return tokenizer


def _trained_tokenizer(text: ModelConfig, config: StudentConfig, trained: Tokenizer | None) -> Tokenizer:
    if "hf_model_name" in text:
        _refuse(
            "`text.vocabulary` must be absent for a Hugging Face text tower, which brings its tokenizer; got "
            f"{config.text.vocabulary}. Leave it out, or take an architecture with CLIP's text transformer."
        )
    if trained is None:
        _refuse(
            "`text.vocabulary` must come with the tokenizer that was trained; got none. Pass "
            "`tokenizer=train_tokenizer(captions, vocabulary=…)`."
        )
    text["vocab_size"] = trained.get_vocab_size()
    text["pad_id"], text["eos_id"] = trained.token_to_id(PADDING), trained.token_to_id(END)
    text["hf_tokenizer_name"], text["tokenizer_kwargs"] = TEXT_FOLDER, dict(_CLEAN_AS_OURS)
    return trained


def _hf_sources(text: ModelConfig, config: StudentConfig, base: Path) -> tuple[str, str]:
    """Where the text tower's configuration and the tokenizer are: a folder, a hub id, or nowhere ("")."""
    if config.text.hf is not None:
        source = _folder_or_hub_id(config.text.hf, base)
        return source, source
    initial = resolve_path(config.init, base)
    tokenizer = text.get("hf_tokenizer_name") or text.get("hf_model_name") or ""
    tower = text.get("hf_model_name") or tokenizer
    if config.init == NO_WEIGHTS:
        return tower, tokenizer
    inside = str(initial / TEXT_FOLDER) if (initial / TEXT_FOLDER).is_dir() else tower
    return inside, str(initial) if any((initial / name).is_file() for name in TOKENIZERS) else tokenizer


def _folder_or_hub_id(value: str, base: Path) -> str:
    folder = resolve_path(value, base)
    if folder.is_dir():
        return str(folder)
    if value.startswith((".", "/", "~")) or value.count("/") > 1:
        _refuse(f"`text.hf` must be a folder that exists, or a hub id; got {value!r}. Looked at {folder}.")
    return value


def _input_spec(model_config: ModelConfig, preprocessing: Preprocessing, config: StudentConfig) -> InputSpec:
    size = model_config["vision_cfg"].get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    published = _RESIZE_OF[preprocessing["resize_mode"]] if "resize_mode" in preprocessing else None
    interpolation: Interpolation | None = config.interpolation or preprocessing.get(
        "interpolation", "bicubic"
    )
    if interpolation is None:
        _refuse(
            "`interpolation` must be given, bilinear or bicubic, since the images of `init` were resized by "
            "another; got nothing. Set it; bicubic is the closest to lanczos."
        )
    return InputSpec(
        height=height,
        width=width,
        resize=config.resize or published or _DEFAULT_RESIZE,
        interpolation=interpolation,
        mean=tuple(preprocessing.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(preprocessing.get("std", open_clip.OPENAI_DATASET_STD)),
    )


def _refuse(mistake: str) -> Never:
    raise ConfigError(SUBJECT, [mistake])
