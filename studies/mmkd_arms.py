"""The nine teachers and the arms of the MMKD-CLIP study, as recipes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Words = Literal["clip", "wordpiece"]

SIZE: Final = 64
CONTEXT: Final = 40
TRAINING: Final = {"batch_size": 64, "learning_rate": 1e-3, "checkpoint_every": 200}
# Images that a teacher sees, whatever the size of its part; epochs follow.
TEACHER_IMAGES: Final = 48_000
PRETRAIN_EPOCHS, DISTILL_EPOCHS = 10, 16
# MMKD-CLIP's crops. The students' alone: teachers had the default ones.
VIEWS: Final = {"scale": [0.9, 1.0], "brightness": 0, "contrast": 0, "gamma": 0}
# Of arms with several stored views, which student and teachers see alike.
SHARED_VIEWS: Final = {**VIEWS, "scale": [0.6, 1.0]}
PUBLISHED: Final = {
    "objectives": {"contrastive": 1.0, "feature_mse": 50.0, "interactive_contrastive": 1.0},
    "selection": {"kind": "random_draw"},
    "projection": {"kind": "linear_autoencoder", "steps": 400},
}
# Chosen on the validation split.
CHOSEN: Final = {
    "objectives": {"contrastive": 1.0, "feature_mse": 500.0, "interactive_contrastive": 1.0},
    "selection": {"kind": "available"},
    "projection": {"kind": "joint_pca"},
}


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """One teacher: what it is and which part of the teacher pool it learns from; empty means all of it."""

    tower: str
    dim: int
    words: Words
    datasets: Sequence[str] = ()
    modalities: Sequence[str] = ()

    @property
    def where(self) -> dict[str, Any]:
        """The rows that it learns from."""
        part = {"dataset": list(self.datasets), "modality": list(self.modalities)}
        return {"pool": "teacher", **{column: values for column, values in part.items() if values}}


MOBILE, REGNET, EDGENEXT = "mobilenetv4_conv_small", "regnety_002", "edgenext_xx_small"
TEACHERS: Final[Mapping[str, Teacher]] = {
    "general_mobile": Teacher(tower=MOBILE, dim=256, words="clip"),
    "general_regnet": Teacher(tower=REGNET, dim=192, words="wordpiece"),
    "radiology": Teacher(tower=MOBILE, dim=256, words="clip", modalities=("xray", "ct", "mri")),
    "tomography": Teacher(
        tower=REGNET, dim=192, words="wordpiece", datasets=("medpix", "lgg"), modalities=("ct", "mri")
    ),
    "screening": Teacher(
        tower=EDGENEXT, dim=192, words="clip", datasets=("mednist", "covid"), modalities=("xray", "ct", "mri")
    ),
    "ultrasound": Teacher(tower=MOBILE, dim=256, words="wordpiece", modalities=("ultrasound", "endoscopy")),
    "surface": Teacher(
        tower=REGNET, dim=192, words="clip", modalities=("endoscopy", "fundus", "ultrasound", "histology")
    ),
    "microscopy": Teacher(tower=MOBILE, dim=256, words="wordpiece", modalities=("microscopy", "histology")),
    "cells_and_brain": Teacher(
        tower=EDGENEXT,
        dim=192,
        words="clip",
        datasets=("wbc1", "dsb", "lgg"),
        modalities=("microscopy", "histology", "mri"),
    ),
}
STUDENT_TOWER: Final = "mobilenetv4_conv_small_050"
STUDENT_DIM: Final = 128
BERTS: Final = {"student": {"width": 128, "layers": 2}, "teacher": {"width": 256, "layers": 2}}


def architecture(tower: str, dim: int, words: Words, bert: str) -> dict[str, Any]:
    """An open_clip configuration."""
    hf = {
        "hf_model_name": bert,
        "hf_tokenizer_name": bert,
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "hf_proj_type": "linear",
        "context_length": CONTEXT,
    }
    clip = {"context_length": CONTEXT, "vocab_size": 49408, "width": 192, "heads": 3, "layers": 2}
    vision = {"timm_model_name": tower, "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": ""}
    return {
        "embed_dim": dim,
        "vision_cfg": {**vision, "image_size": SIZE},
        "text_cfg": clip if words == "clip" else hf,
    }


def contrastive(name: str, *, epochs: int, seed: int) -> dict[str, Any]:
    """A stage of contrastive training."""
    return {"name": name, "method": "contrastive", "epochs": epochs, **TRAINING, "seed": seed}


def embedding(seed: int, **options: Any) -> dict[str, Any]:
    """Stage 2 of MMKD-CLIP, with what an arm does otherwise."""
    method = {"name": "distill", "method": "embedding", **CHOSEN, "views": "fixed"}
    return {**method, "epochs": DISTILL_EPOCHS, **TRAINING, "seed": seed, **options}


def teacher_entry(name: str) -> dict[str, Any]:
    """How a recipe names one of the teachers."""
    entry = {"kind": "open_clip", "model": f"local-dir:teacher_{name}/student", "licence": "proprietary"}
    modalities = list(TEACHERS[name].modalities)
    return {**entry, "modalities": modalities} if modalities else entry


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A student after the shared first stage: its teachers, and what its second stage does otherwise."""

    teachers: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float16"
    views: int = 1


# 50 epochs of the transfer pool for the autoencoder; its default of 2,000 steps is for far more pairs.
PROJECTIONS: Final = (
    {"kind": "learned_head"},
    {"kind": "linear_autoencoder", "steps": 400},
    {"kind": "pca"},
    {"kind": "phi_s"},
)
# Prefix of an arm's name → epochs, where it takes more of them than the others.
LONGER: Final = {"long_": 40, "longest_": 80}
ONE_SEED: Final = ("without_", "int8")


def arms(best: str) -> dict[str, Arm]:
    """Name → arm; `best` is the single best teacher on validation. An arm without teachers learns alone.

    `published` is MMKD-CLIP as in its paper, `mmkd` with what was chosen on validation; all other arms are
    `mmkd` but for what their name says. Those with a prefix of `LONGER` take more steps. In `long_views`
    student and teachers see the same of six stored views. Those that start with one of `ONE_SEED` run with
    one seed.
    """
    every = tuple(TEACHERS)
    found = {
        "mmkd": Arm(teachers=every),
        "alone": Arm(teachers=()),
        "single": Arm(teachers=(best,)),
        "published": Arm(teachers=every, options=PUBLISHED),
        "random_draw": Arm(teachers=every, options={"selection": {"kind": "random_draw"}}),
        **{str(each["kind"]): Arm(teachers=every, options={"projection": each}) for each in PROJECTIONS},
        "int8": Arm(teachers=every, precision="int8"),
    }
    for prefix, epochs in LONGER.items():
        for name, teachers in (("mmkd", every), ("alone", ()), ("single", (best,))):
            found[f"{prefix}{name}"] = Arm(teachers=teachers, options={"epochs": epochs})
    shared = {"epochs": LONGER["long_"], "views": "consistent"}
    found["long_views"] = Arm(teachers=every, options=shared, views=6)
    for name in every:
        found[f"without_{name}"] = Arm(teachers=tuple(other for other in every if other != name))
    return found
