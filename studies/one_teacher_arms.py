"""The arms of the study of one teacher, as stages of recipes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

IMAGE_SIZE: Final = 64
# What the pretrained encoder sees: more than the student, and less than it was trained with, for the time.
ENCODER_SIZE: Final = 96
CONTEXT: Final = 40
EPOCHS: Final = 16
TRAINING: Final = {"batch_size": 64, "checkpoint_every": 200}
RATES: Final = {"teacher": 1e-3, "student": 2e-3}
# Teacher from scratch → epochs of its pool.
TEACHERS: Final = {"vit": 12, "clip": 12}
ALONE: Final = "alone"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One student: its teacher, and what its stage says beside the defaults."""

    teacher: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    views: int = 1


def _learned_head(**objective: Any) -> dict[str, Any]:
    return {"objectives": {"contrastive": 1.0, **objective}, "projection": {"kind": "learned_head"}}


def _cosine(features: str) -> dict[str, Any]:
    """The default, but for what is compared."""
    return _learned_head(cosine_smooth_l1={"weight": 20.0, "features": features})


ARMS: Final[Mapping[str, Arm]] = {
    ALONE: Arm(),
    "cnn": Arm(teacher="cnn"),
    "vit": Arm(teacher="vit"),
    "clip": Arm(teacher="clip"),
    # What the question began with: features that are not centred, and a weight taken from elsewhere.
    "cnn_uncentred": Arm(teacher="cnn", options=_learned_head(feature_mse=2000.0)),
    # One difference at a time: a hundredth of that weight; the default's objective and weight, first not
    # centred, then centred and scaled but not turned.
    "cnn_uncentred_light": Arm(teacher="cnn", options=_learned_head(feature_mse=20.0)),
    "cnn_normalised": Arm(teacher="cnn", options=_cosine("normalised")),
    "cnn_standardised": Arm(teacher="cnn", options=_cosine("standardised")),
}


def architecture(name: str, bert: Path) -> dict[str, Any]:
    """The open_clip configuration of a teacher or of the student."""
    towers: dict[str, dict[str, Any]] = {
        "student": _timm("test_resnet"),
        "clip": _timm("regnety_002"),
        "vit": {"image_size": 96, "layers": 4, "width": 192, "head_width": 64, "patch_size": 16},
    }
    text = {
        "hf_model_name": str(bert),
        "hf_tokenizer_name": str(bert),
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "hf_proj_type": "linear",
        "context_length": CONTEXT,
    }
    return {"embed_dim": 128 if name == "student" else 192, "vision_cfg": towers[name], "text_cfg": text}


def _timm(tower: str) -> dict[str, Any]:
    vision = {"timm_model_name": tower, "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": ""}
    return {**vision, "image_size": IMAGE_SIZE}


def trained(teacher: str) -> dict[str, Any]:
    """A teacher's stage: contrastive, from scratch."""
    return {
        "name": "train",
        "method": "contrastive",
        "epochs": TEACHERS[teacher],
        **TRAINING,
        "learning_rate": RATES["teacher"],
    }


def stage(arm: str, seed: int) -> dict[str, Any]:
    """The only stage of a student."""
    common = {"name": "train", "epochs": EPOCHS, **TRAINING, "learning_rate": RATES["student"], "seed": seed}
    chosen = ARMS[arm]
    if chosen.teacher is None:
        return {**common, "method": "contrastive"}
    return {**common, "method": "embedding", **chosen.options}
