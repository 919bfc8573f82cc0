"""From a folder of any library to a start."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from meddistill.errors import CheckpointError, one_line
from meddistill.students.initial.clip_folder import clip_start
from meddistill.students.initial.folder import ModelFolder, shown
from meddistill.students.initial.open_clip_folder import open_clip_start
from meddistill.students.initial.resnet_folder import resnet_start
from meddistill.students.initial.start import Start
from meddistill.students.initial.timm_folder import timm_start
from meddistill.students.initial.vit_folder import vit_start

_TRANSFORMERS: Final[Mapping[str, Callable[[ModelFolder, Any], Start]]] = {
    "clip": clip_start,
    "clip_vision_model": clip_start,
    "vit": vit_start,
    "dinov2": vit_start,
    "resnet": resnet_start,
}


def read_start(path: Path) -> Start:
    """What the folder at `path` brings; its weights stay unread.

    Which library saved it shows by its configuration and its tensors' names. Where several did, open_clip
    comes first.

    Raises
    ------
    CheckpointError
        If it is no folder of a model, one of pickles, or one whose architecture a student cannot have.
    """
    folder = ModelFolder.read(path)
    start = open_clip_start(folder) or _transformers_start(folder) or timm_start(folder)
    if start is None:
        msg = (
            "`init` must be a folder of open_clip (open_clip_config.json), timm (config.json with "
            "`architecture`) or transformers (config.json with `model_type`); "
            f"{path} holds {shown(folder.files)}. Copy the whole folder."
        )
        raise CheckpointError(msg)
    return start


def _transformers_start(folder: ModelFolder) -> Start | None:
    kind = (folder.config or {}).get("model_type")
    if not isinstance(kind, str):
        return None
    if kind not in _TRANSFORMERS:
        msg = (
            f"`init` must be a model of transformers whose architecture a student can have "
            f"({', '.join(_TRANSFORMERS)}); got {kind}. Name the same network as timm or open_clip saves it, "
            "or take this one as a teacher of `kind: transformers`."
        )
        raise CheckpointError(msg)
    from transformers import AutoConfig

    try:
        settings = AutoConfig.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        line = one_line(error)
        msg = f"`init` must have a config.json that transformers reads; got {line}. Update transformers."
        raise CheckpointError(msg) from error
    return _TRANSFORMERS[kind](folder, settings)
