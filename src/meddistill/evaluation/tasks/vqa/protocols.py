"""What published protocols of closed-set answering fix; loads no torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

# Setting → values as published, one or more by data set. The first holds where a suite says nothing.
#
# m3ae: zhjohnchan/M3AE, `config.py`, `m3ae_utils.py`, `finetune_m3ae.sh`: 50 epochs of 64 on VQA-RAD, 15 of
# 32 on SLAKE, 10 of 32 on VQA-Med 2019; 5e-6, fifty times that for the head, falling along a line.
# mevf: Awenbocc/med-vqa (QCR), `train.py`, `main.py`: 200 epochs of 64; aioz-ai/MICCAI19-MedVQA (MEVF), the
# same files: 20 of 32; sarahESL/PubMedCLIP: 200 of 16. All three learn end to end and cut gradients at 0.25.
PUBLISHED: Final[Mapping[str, Mapping[str, tuple[Any, ...]]]] = MappingProxyType(
    {
        "default": {},
        "m3ae": {
            "towers": ("tuned",),
            "loss": ("binary_cross_entropy",),
            "epochs": (50, 15, 10),
            "batch_size": (64, 32),
            "learning_rate": (2.5e-4,),
            "tower_learning_rate": (5e-6,),
            "weight_decay": (0.01,),
            "schedule": ("linear",),
            "second_moment": (0.98,),
        },
        "mevf": {
            "towers": ("tuned",),
            "loss": ("binary_cross_entropy",),
            "epochs": (20, 200),
            "batch_size": (32, 64, 16),
            "clip_norm": (0.25,),
        },
    }
)


def with_published(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task, with those of its protocol where it says nothing."""
    protocol = settings.get("protocol")
    published = PUBLISHED.get(protocol, {}) if isinstance(protocol, str) else {}
    return {**{name: values[0] for name, values in published.items()}, **settings}


def departures(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task sets otherwise than its protocol: `towers: frozen (published: tuned)`."""
    lines = []
    for name, values in PUBLISHED[settings["protocol"]].items():
        if settings[name] not in values:
            published = " or ".join(map(str, values))
            lines.append(f"`{name}: {settings[name]}` (published: {published})")
    return tuple(lines)
