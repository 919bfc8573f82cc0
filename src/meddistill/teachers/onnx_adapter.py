"""ONNX graphs run by onnxruntime: an image graph, a text graph, or both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from meddistill.errors import TeacherError
from meddistill.teachers.adapted import Adapted, version_of
from meddistill.teachers.config import OnnxTeacher
from meddistill.teachers.protocols import PatchGrid, patches_of_map
from meddistill.teachers.sources import find_file, sha256_of, sha256_of_lines

_INTEGERS: Final[dict[str, type[np.signedinteger[Any]]]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_FLOATS: Final[dict[str, type[np.floating[Any]]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


class Graph:
    """One graph with a chosen input; outputs by name."""

    def __init__(self, path: Path, *, input_name: str | None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.path = path
        self.session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        entries = {entry.name: entry for entry in self.session.get_inputs()}
        self.input = _one_of(entries, input_name, what="input", path=path)
        batch = entries[self.input].shape[0]
        if isinstance(batch, int):
            msg = (
                f"`{path.name}` must take any batch size; its input {self.input!r} is fixed to {batch}. "
                "Export it again with a dynamic first axis."
            )
            raise TeacherError(msg)
        self.input_type = str(entries[self.input].type)
        self.outputs = {entry.name: entry for entry in self.session.get_outputs()}

    def output(self, name: str | None) -> str:
        """The output's name: the given one, or the only one."""
        return _one_of(self.outputs, name, what="output", path=self.path)

    def run(self, value: NDArray[Any], *outputs: str) -> list[Tensor]:
        """Outputs as tensors in the host's memory."""
        return [torch.from_numpy(each) for each in self.session.run(outputs, {self.input: value})]


class ImageGraph:
    """Embeddings of images."""

    def __init__(self, graph: Graph, output: str) -> None:
        if graph.input_type not in _FLOATS:
            msg = f"`image_input` must be normalised pixels as floats; got {graph.input_type}. Export it so."
            raise TeacherError(msg)
        self.graph = graph
        self.output = output

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The embedding output."""
        (embeddings,) = self.run(pixels, self.output)
        return embeddings

    def run(self, pixels: Float[Tensor, "batch 3 height width"], *outputs: str) -> list[Tensor]:
        """Outputs for pixels in the precision that the graph was exported in."""
        return self.graph.run(pixels.cpu().numpy().astype(_FLOATS[self.graph.input_type]), *outputs)


class PatchGraph(ImageGraph):
    """Embeddings and patch tokens of images."""

    def __init__(self, graph: Graph, output: str, patches: str) -> None:
        super().__init__(graph, output)
        self.patches = patches

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The patch output; three axes are read as a square grid of tokens."""
        return _patches(*self.run(pixels, self.patches))

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both outputs by one run."""
        embeddings, tokens = self.run(pixels, self.output, self.patches)
        return embeddings, _patches(tokens)


class TextGraph:
    """Embeddings of texts."""

    def __init__(self, graph: Graph, output: str, tokenizer: Tokenizer) -> None:
        if graph.input_type not in _INTEGERS:
            msg = f"`text_input` must be int64 or int32 token ids; got {graph.input_type}. Export it so."
            raise TeacherError(msg)
        self.graph = graph
        self.output = output
        self.tokenizer = tokenizer

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "batch dim"]:
        """The embedding output for padded and truncated token ids."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        (embeddings,) = self.graph.run(np.asarray(rows, dtype=_INTEGERS[self.graph.input_type]), self.output)
        return embeddings


class TwoGraphs(TextGraph):
    """Embeddings of images and texts."""

    def __init__(self, images: ImageGraph, texts: TextGraph) -> None:
        super().__init__(texts.graph, texts.output, texts.tokenizer)
        self.images = images

    def embed_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim"]:
        """The embedding output of the image graph."""
        return self.images.embed_images(pixels)


class TwoGraphsWithPatches(TwoGraphs):
    """Embeddings of images and texts, and patch tokens."""

    def __init__(self, images: PatchGraph, texts: TextGraph) -> None:
        super().__init__(images, texts)
        self.patches = images

    def patch_tokens(self, pixels: Float[Tensor, "batch 3 height width"]) -> PatchGrid:
        """The patch output of the image graph."""
        return self.patches.patch_tokens(pixels)

    def embed_images_with_patches(
        self, pixels: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch dim"], PatchGrid]:
        """Both outputs of the image graph by one run."""
        return self.patches.embed_images_with_patches(pixels)


def adapt(config: OnnxTeacher, *, base: Path) -> Adapted:
    """Open the graphs that `config` names. They run on the CPU, whatever the teacher's device."""
    if config.precision != "float32":
        msg = f"`precision` must be float32 for a graph, which has its own; got {config.precision!r}."
        raise TeacherError(msg)
    files = [
        find_file(name, base=base, what=what)
        for name, what in ((config.model, "model"), (config.text_model, "text_model"))
        if name is not None
    ]
    weights = [each for path in files for each in _with_external_data(path)]
    images = _image_graph(config, files[0]) if config.model is not None else None
    texts = _text_graph(config, files[-1], base=base) if config.text_model is not None else None
    named = ("image_input", "image_output", "patch_output", "text_input", "text_output")
    return Adapted(
        model=_combined_model(images, texts),
        source=" ".join(path.name for path in files),
        library=version_of("onnxruntime"),
        weights_sha256=sha256_of(weights),
        parameters=sum(_count(path) for path in files),
        tokenizer_sha256=sha256_of_lines([texts.tokenizer.to_str()]) if texts else None,
        input=config.input if images else None,
        context_length=config.context_length if texts else None,
        logit_scale=config.logit_scale,
        options={name: value for name in named if (value := getattr(config, name)) is not None},
    )


def _patches(tokens: Tensor) -> PatchGrid:
    if tokens.dim() == 4:
        return patches_of_map(tokens)
    side = round(tokens.shape[1] ** 0.5)
    if side * side != tokens.shape[1]:
        got = tokens.shape[1]
        msg = f"`patch_output` must be a square grid; got {got} tokens. Export it as [b, d, h, w]."
        raise TeacherError(msg)
    return PatchGrid(tokens=tokens, grid=(side, side))


def _combined_model(images: ImageGraph | None, texts: TextGraph | None) -> object:
    if images is None or texts is None:
        return images or texts
    return TwoGraphsWithPatches(images, texts) if isinstance(images, PatchGraph) else TwoGraphs(images, texts)


def _image_graph(config: OnnxTeacher, path: Path) -> ImageGraph:
    graph = Graph(path, input_name=config.image_input)
    if config.patch_output is None:
        return ImageGraph(graph, graph.output(config.image_output))
    others = [name for name in graph.outputs if name != config.patch_output]
    embedding = config.image_output or (others[0] if len(others) == 1 else None)
    return PatchGraph(graph, graph.output(embedding), graph.output(config.patch_output))


def _text_graph(config: OnnxTeacher, path: Path, *, base: Path) -> TextGraph:
    graph = Graph(path, input_name=config.text_input)
    file = find_file(str(config.tokenizer), base=base, what="tokenizer")
    tokenizer = Tokenizer.from_buffer(file.read_bytes())
    length = int(config.context_length or 0)
    padding = tokenizer.padding or {}
    tokenizer.enable_truncation(max_length=length)
    tokenizer.enable_padding(
        length=length, pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]")
    )
    return TextGraph(graph, graph.output(config.text_output), tokenizer)


def _one_of(entries: dict[str, Any], name: str | None, *, what: str, path: Path) -> str:
    if name is None and len(entries) == 1:
        return next(iter(entries))
    if name is None or name not in entries:
        msg = f"`{path.name}` must have the {what} that is named; got {name!r}. It has {', '.join(entries)}."
        raise TeacherError(msg)
    return name


def _with_external_data(path: Path) -> list[Path]:
    """The graph's file and the files beside it that hold its weights."""
    model = onnx.load(str(path), load_external_data=False)
    names = {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path, *(find_file(name, base=path.parent, what="external data") for name in sorted(names))]


def _count(path: Path) -> int:
    model = onnx.load(str(path), load_external_data=False)
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
