"""The arms of the study of AMMKD: students and their teachers, as data, and the recipes made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from meddistill.balancing.torchjd_methods import METHODS

FIRST, SECOND = "first", "second"
DISAGREEING: Final = "second_disagreeing"
ALONE, UNIFORM, CHOSEN, CONFIDENCE = "alone", "uniform", "min_norm", "confidence"
FROM: Final = {FIRST: "from_first", SECOND: "from_second"}
FROZEN, SCRATCH = "frozen_encoder", "mobilenetv4_scratch"
TEACHER_EPOCHS, STUDENT_EPOCHS, LONGER_EPOCHS = 1, 1, 4
# Each photograph has five captions; students learn from the first ones, teachers from all.
STUDENT_CAPTIONS: Final = ("0", "1")
CONTEXT, VOCABULARY = 40, 4000
TRAINING: Final = {"batch_size": 128, "learning_rate": 1e-3, "checkpoint_every": 50}
# So that few images make 312 steps: with 128 a batch, 78 steps, validation was a fifth to a third lower.
STUDENT_TRAINING: Final = {**TRAINING, "batch_size": 32}
VIEWS: Final = {"scale": [0.8, 1.0], "horizontal_flip": 0.5}
# Bounds of min_norm, of which validation chooses.
BOUNDS: Final = (0.6, 0.8, 1.0)
QUEUE: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Model:
    """An architecture: its image tower with its weights, or by timm name, its size and its text tower.

    `encoder` names a folder of `--encoders`, `image_tower` a tower that starts from nothing.
    """

    encoder: str | None = None
    image_tower: str | None = None
    image_size: int
    embed_dim: int
    text: Mapping[str, int]


_SMALL: Final = {"width": 128, "heads": 2, "layers": 3}
_LARGE: Final = {"width": 256, "heads": 4, "layers": 6}
TEACHERS: Final[Mapping[str, Model]] = {
    FIRST: Model(encoder="efficientnet_lite2", image_size=160, embed_dim=256, text=_LARGE),
    SECOND: Model(encoder="efficientnet_lite1", image_size=160, embed_dim=256, text=_LARGE),
}
STUDENT: Final = Model(encoder="efficientnet_lite0", image_size=96, embed_dim=256, text=_SMALL)
SCRATCH_STUDENT: Final = Model(
    image_tower="mobilenetv4_conv_small_050", image_size=96, embed_dim=256, text=_SMALL
)

_CONTRASTIVE: Final = {"contrastive": 1.0}
_SIMILARITY: Final = {"similarity_kl": {"weight": 1.0, "merge_positives": True}}
_FEATURES: Final = {"cosine_smooth_l1": 20.0}


def _class_vectors(**negatives: Any) -> dict[str, Any]:
    return {"class_vector_kl": {"weight": 1.0, "temperature": 2.0, **negatives}}


OBJECTIVES: Final = {
    **_CONTRASTIVE,
    **_SIMILARITY,
    **_class_vectors(negatives="batch"),
    **_FEATURES,
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A student: its teachers, what its stage has beside the defaults, the fusion before it.

    Without teachers it learns alone. `frozen` keeps the image tower but for its projection. A fusion that
    stops early chooses its epoch by the validation split, so its figures there are a little flattered.
    """

    model: Model = STUDENT
    teachers: Sequence[str] = ()
    epochs: int = STUDENT_EPOCHS
    options: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] | None = None
    frozen: bool = False


def _weighted(teachers: Sequence[str] = (FIRST, SECOND), **weighting: Any) -> Arm:
    return Arm(teachers=teachers, options={"weighting": weighting})


def _compared(**objectives: Any) -> Arm:
    """Uniform weights, with these objectives beside the contrastive one alone."""
    return Arm(teachers=(FIRST, SECOND), options={"objectives": {**_CONTRASTIVE, **objectives}})


def bounded(bound: float) -> str:
    """The name of the arm whose teachers have no weight above `bound`."""
    return f"{CHOSEN}_{bound}"


SINGLE: Final[Mapping[str, Arm]] = {
    ALONE: Arm(),
    FROM[FIRST]: Arm(teachers=(FIRST,)),
    FROM[SECOND]: Arm(teachers=(SECOND,)),
}
WEIGHTED: Final[Mapping[str, Arm]] = {
    UNIFORM: _weighted(kind="uniform"),
    **{bounded(bound): _weighted(kind="min_norm", max_weight=bound) for bound in BOUNDS},
}
BESIDE: Final[Mapping[str, Arm]] = {
    FROZEN: Arm(frozen=True),
    SCRATCH: Arm(model=SCRATCH_STUDENT),
}
RULES: Final[Mapping[str, Arm]] = {
    "fixed": _weighted(kind="fixed", weights={FIRST: 0.7, SECOND: 0.3}),
    "uncertainty": _weighted(kind="uncertainty"),
    CONFIDENCE: _weighted(kind="confidence"),
    "loss_mlp": _weighted(kind="loss_mlp"),
    "attention": _weighted(kind="attention", keys="pooled"),
    "min_norm_normalized": _weighted(kind="min_norm", normalize=True),
    "min_norm_smoothed": _weighted(kind="min_norm", smoothing=0.9),
    **{f"torchjd_{method}": _weighted(kind="torchjd", method=method) for method in METHODS},
}
PARTS_OF_AMMKD: Final[Mapping[str, Arm]] = {
    "fused_within": Arm(teachers=(FIRST, SECOND), fusion={"inputs": "within", "patience": 3}),
    "fused_across": Arm(
        teachers=(FIRST, SECOND),
        fusion={"inputs": "across"},
        options={"objectives": {**_CONTRASTIVE, **_FEATURES}},
    ),
    "class_vectors_batch": _compared(**_class_vectors(negatives="batch")),
    "class_vectors_bank": _compared(**_class_vectors(negatives="bank", bank="captions")),
    "class_vectors_queue": _compared(**_class_vectors(negatives="queue", queue_size=QUEUE)),
    "similarity_kl": _compared(**_SIMILARITY),
    "features": _compared(**_FEATURES),
}


def disagreeing_with(name: str) -> str:
    """The name of an arm whose second teacher is wrong about half of the clusters."""
    return f"disagreeing_{name}"


def disagreeing(bound: float) -> dict[str, Arm]:
    """The arms whose second teacher is wrong about half of the clusters; `bound` is chosen on validation."""
    teachers = (FIRST, DISAGREEING)
    return {
        disagreeing_with(UNIFORM): _weighted(teachers, kind="uniform"),
        disagreeing_with(CHOSEN): _weighted(teachers, kind="min_norm", max_weight=bound),
        disagreeing_with(CONFIDENCE): _weighted(teachers, kind="confidence"),
        disagreeing_with(FROM[SECOND]): Arm(teachers=(DISAGREEING,)),
    }


# Whether it is the bounded distance of features that hides the wrong teacher from min_norm.
_KL: Final = {"objectives": {name: OBJECTIVES[name] for name in OBJECTIVES if name not in _FEATURES}}
DISAGREEING_BY_KL: Final[Mapping[str, Arm]] = {
    f"{disagreeing_with(name)}_kl": Arm(
        teachers=(FIRST, DISAGREEING), options={**_KL, "weighting": {"kind": name, **bound}}
    )
    for name, bound in ((UNIFORM, {}), (CHOSEN, {"max_weight": 0.8}))
}


def longer(bound: float) -> dict[str, Arm]:
    """Students of more epochs: whether a small one reaches its teachers; `bound` is chosen on validation."""
    both = {UNIFORM: WEIGHTED[UNIFORM], CHOSEN: _weighted(kind="min_norm", max_weight=bound)}
    short = {ALONE: SINGLE[ALONE], **both}
    return {longer_for(name): replace(arm, epochs=LONGER_EPOCHS) for name, arm in short.items()}


def longer_for(name: str) -> str:
    """The name of an arm that learns for several epochs."""
    return f"longer_{name}"


def arms(bound: float) -> dict[str, Arm]:
    """Every arm by name."""
    several = {**WEIGHTED, **disagreeing(bound), **DISAGREEING_BY_KL, **longer(bound)}
    return {**SINGLE, **several, **BESIDE, **RULES, **PARTS_OF_AMMKD}


def repeated(bound: float) -> tuple[str, ...]:
    """The arms that a target stands on, which run with every seed; the others have the first alone."""
    return (*SINGLE, UNIFORM, bounded(bound), *disagreeing(bound))
