"""Folders of open_clip, students among them: their own architecture, tensor by tensor."""

from typing import Any, Final

from meddistill.errors import CheckpointError
from meddistill.students.initial.folder import OPEN_CLIP_CONFIG, ModelFolder, tensor_names
from meddistill.students.initial.start import IMAGE, Origin, Start, Table

WEIGHTS_FILE: Final = "open_clip_model.safetensors"
_WEIGHTS: Final = (WEIGHTS_FILE, "open_clip_pytorch_model.safetensors")
# Where the text tower lies beside the image tower, as in open_clip's class CLIP, and not below `text`.
_TEXT: Final = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
_BUFFERS: Final = ("text.transformer.embeddings.position_ids",)
_PARTS: Final = ("embed_dim", "vision_cfg", "text_cfg")


def open_clip_start(folder: ModelFolder) -> Start | None:
    """The start that a folder of open_clip gives; None for a folder of another library.

    A folder may have the files of several; this one's tensors begin with `visual.`.
    """
    if folder.open_clip is None:
        return None
    try:
        files = folder.weights(_WEIGHTS)
        fits = any(name.startswith(IMAGE) for name in tensor_names(files))
    except CheckpointError:
        if folder.config is None:
            raise
        return None
    if not fits and folder.config is not None:
        return None
    model_config = _model_config(folder)
    return Start(
        source=f"open_clip {folder.path.name}",
        files=files,
        vision=model_config["vision_cfg"],
        text=model_config["text_cfg"],
        common={key: value for key, value in model_config.items() if key not in ("vision_cfg", "text_cfg")},
        preprocessing=folder.open_clip.get("preprocess_cfg", {}),
        table=_table,
    )


def _model_config(folder: ModelFolder) -> dict[str, Any]:
    content = folder.open_clip or {}
    config = content.get("model_cfg", content)
    missing = [key for key in _PARTS if key not in config]
    if missing:
        msg = (
            f"`init` must be a folder with an open_clip configuration; {folder.path / OPEN_CLIP_CONFIG} "
            f"lacks {', '.join(missing)}. Save the model with open_clip again."
        )
        raise CheckpointError(msg)
    if "multimodal_cfg" in config:
        msg = f"`init` must be a dual encoder; got a CoCa in {folder.path}. Choose a CLIP."
        raise CheckpointError(msg)
    return dict(config)


def _table(names: frozenset[str], _: Any) -> Table:
    old = "text_projection" in names
    return {
        f"text.{name}" if old and name.startswith(_TEXT) else name: Origin((name,))
        for name in names
        if name not in _BUFFERS
    }
