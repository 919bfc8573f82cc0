"""The two towers as ONNX models that stock ONNX Runtime runs."""

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

import onnx
import torch
from jaxtyping import Float, Int
from open_clip.timm_model import TimmModel
from timm.utils import reparameterize_model
from torch import Tensor, nn

from meddistill.bundle_format import IMAGE_MODEL, TEXT_MODEL
from meddistill.errors import BundleError, one_line
from meddistill.students.dual_encoder import DualEncoder

OPSET: Final = 18
_MAX_BYTES: Final = 2**31 - 1
# The quantizer of ONNX Runtime writes to the root logger.
_NOISY: Final = ("root", "onnxscript", "onnx_ir", "torch.onnx")


@final
class ImageTower(nn.Module):
    """Normalised pixels to image embeddings of unit length.

    Branches that a tower has for training alone (RepViT, MobileOne, FastViT) are folded into one convolution,
    in a copy: the student keeps its own. Must be made of a student in evaluation mode.
    """

    def __init__(self, student: DualEncoder) -> None:
        super().__init__()
        self.visual = copy.deepcopy(student.model.visual)
        if isinstance(self.visual, TimmModel):
            # From the trunk down: the `fuse` of some towers returns nothing, which would replace the trunk.
            reparameterize_model(self.visual.trunk, inplace=True)

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """x / |x| of the tower's output x."""
        return nn.functional.normalize(self.visual(pixels), dim=-1)


@final
class TextTower(nn.Module):
    """Token ids to text embeddings of unit length."""

    def __init__(self, student: DualEncoder) -> None:
        super().__init__()
        self.model = student.model

    def forward(self, tokens: Int[Tensor, "batch context"]) -> Float[Tensor, "batch dim"]:
        """x / |x| of the tower's output x."""
        return nn.functional.normalize(self.model.encode_text(tokens), dim=-1)


def export_towers(student: DualEncoder, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write `onnx/image.onnx` and `onnx/text.onnx` into the folder.

    Parameters
    ----------
    student
        On the CPU, in evaluation mode.
    folder
        The bundle being written.
    metadata
        Entered into both models' `metadata_props`.

    Raises
    ------
    BundleError
        If a tower cannot be traced, or is too large for one ONNX file.
    """
    export_image_tower(student, folder, metadata=metadata)
    export_text_tower(student, folder, metadata=metadata)


def export_image_tower(student: DualEncoder, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write `onnx/image.onnx` alone; parameters and errors as of `export_towers`."""
    (folder / IMAGE_MODEL).parent.mkdir(parents=True, exist_ok=True)
    _export(
        ImageTower(student),
        folder / IMAGE_MODEL,
        names=("pixels", "image_embeds"),
        example=torch.zeros(2, 3, student.input.height, student.input.width),
        metadata=metadata,
    )


def export_text_tower(student: DualEncoder, folder: Path, *, metadata: Mapping[str, str]) -> None:
    """Write `onnx/text.onnx` alone; parameters and errors as of `export_towers`."""
    (folder / TEXT_MODEL).parent.mkdir(parents=True, exist_ok=True)
    _export(
        TextTower(student),
        folder / TEXT_MODEL,
        names=("tokens", "text_embeds"),
        example=student.tokenize(["a chest radiograph", "b"]).to(torch.int64),
        metadata=metadata,
    )


def _export(
    tower: nn.Module, path: Path, *, names: tuple[str, str], example: Tensor, metadata: Mapping[str, str]
) -> None:
    # A batch of two: with one, the exporter takes the batch for a constant. An output named "embedding"
    # would collide with a name inside the text tower.
    try:
        with quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                tower.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
                input_names=[names[0]],
                output_names=[names[1]],
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        msg = f"The {path.stem} tower must be one that torch can export; {one_line(error)} Choose another."
        raise BundleError(msg) from error
    model: onnx.ModelProto = program.model_proto
    if model.ByteSize() > _MAX_BYTES:
        msg = (
            f"The {path.stem} tower must fit into one ONNX file of 2 GiB; got {model.ByteSize():,} bytes. "
            "Leave `onnx` out: `bundle: {formats: [open_clip]}`."
        )
        raise BundleError(msg)
    _name_batch_axis(model)
    _strip(model)
    onnx.helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())


def _name_batch_axis(model: onnx.ModelProto) -> None:
    """Call the free axis `batch`; the exporter gives it a symbol like `s81`."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == symbol:
                axis.dim_param = "batch"


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, which name files of this machine."""
    model.ClearField("doc_string")
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.ClearField("metadata_props")
        graph.ClearField("doc_string")
        for part in (*graph.node, *graph.value_info):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of exporter and quantizer on their own insides; failures are exceptions."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
