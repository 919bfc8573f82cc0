"""FrozenTeacher: rasters in, checked float32 out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import nn

import tiny_teachers as tiny
from meddistill.errors import TeacherError
from meddistill.imaging import InputSpec, normalize, rasterize
from meddistill.licences import KNOWN
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher

SPEC = InputSpec(height=6, width=8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


class Corners(nn.Module):
    """Gives back the first and last pixel that it sees, and breaks where a picture is white."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        output = torch.cat([pixels[:, :, 0, 0], pixels[:, :, -1, -1]], 1)
        return torch.where(pixels.mean((1, 2, 3))[:, None] > 1.2, torch.inf, output)


class Plain:
    """No torch module, but one inside."""

    def __init__(self) -> None:
        self.net = Corners()

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.net.embed_images(pixels)


def teacher(model: object, **changes: object) -> FrozenTeacher:
    content = {
        "id": "corners",
        "kind": "python",
        "source": "here",
        "library": "torch",
        "weights_sha256": "a" * 64,
        "licence": KNOWN["own"],
        "input": SPEC,
        "signals": frozenset({"image"}),
        "parameters": 1,
        "dims": {"image": 6},
    }
    return FrozenTeacher(model, card=TeacherCard(**(content | changes)))


@pytest.fixture
def rasters() -> torch.Tensor:
    return torch.randint(0, 200, (4, 6, 8, 3), dtype=torch.uint8)


def test_normalizes_as_imaging_does(rasters: torch.Tensor) -> None:
    frozen = teacher(Corners())
    expected = torch.from_numpy(normalize(rasters.numpy(), SPEC))
    assert torch.equal(frozen.pixels(rasters), expected)
    assert torch.equal(frozen.image_embeddings(rasters)[:, :3], expected[:, :, 0, 0])


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95])
def test_cuts_the_centre_where_timm_cuts_it(crop_pct: float) -> None:
    size, scaled = 224, int(224 / crop_pct)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    transform = create_transform(
        (3, size, size), crop_pct=crop_pct, interpolation="bicubic", mean=mean, std=std
    )
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    spec = InputSpec(height=scaled, width=scaled, resize="crop", interpolation="bicubic", mean=mean, std=std)
    frozen = teacher(Corners(), kind="timm", input=spec, centre_crop=(size, size))
    seen = frozen.pixels(torch.from_numpy(rasterize(picture, spec.geometry).copy())[None])
    torch.testing.assert_close(seen[0], transform(Image.fromarray(picture)))


def test_cuts_the_centre(rasters: torch.Tensor) -> None:
    frozen = teacher(Corners(), centre_crop=(4, 4))
    expected = torch.from_numpy(normalize(rasters.numpy(), SPEC))[:, :, 1:5, 2:6]
    assert torch.equal(frozen.pixels(rasters), expected)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(4, 6, 8, 3),
        torch.zeros(4, 8, 6, 3, dtype=torch.uint8),
        torch.zeros(4, 3, 6, 8, dtype=torch.uint8),
    ],
)
def test_rasters_of_another_kind(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`rasters` must be uint8 of shape \(batch, 6, 8, 3\); got"):
        teacher(Corners()).image_embeddings(wrong)


def test_names_rows_that_are_not_finite(rasters: torch.Tensor) -> None:
    rasters[1], rasters[3] = 255, 255
    with pytest.raises(
        TeacherError, match=r"image embeddings of teacher 'corners' must be finite; .*rows 1, 3 of"
    ):
        teacher(Corners()).image_embeddings(rasters)


def test_another_width_than_the_cards(rasters: torch.Tensor) -> None:
    with pytest.raises(TeacherError, match=r"must have shape \(4, 7\); got \(4, 6\)"):
        teacher(Corners(), dims={"image": 7}).image_embeddings(rasters)


def test_capabilities_that_it_lacks(rasters: torch.Tensor) -> None:
    frozen = teacher(Corners())
    with pytest.raises(TeacherError, match=r"must give the signal text; it gives: image"):
        frozen.text_embeddings(["a"])
    with pytest.raises(TeacherError, match="must give the signal patches"):
        frozen.patch_tokens(rasters)


def test_modules_inside_plain_objects_are_frozen(rasters: torch.Tensor) -> None:
    model = Plain()
    frozen = teacher(model)
    assert frozen.modules == (model.net,)
    assert not model.net.training
    assert not model.net.layer.weight.requires_grad
    assert frozen.image_embeddings(rasters).shape == (4, 6)


def test_bfloat16_keeps_norms_and_lowers_products(tmp_path: Path) -> None:
    config = tiny.save_open_clip(tmp_path).model_copy(update={"precision": "bfloat16"})
    (module,) = load_teacher("x", config, base=tmp_path).modules
    kinds = {name: parameter.dtype for name, parameter in module.named_parameters()}
    lowered = {name for name, dtype in kinds.items() if dtype == torch.bfloat16}
    assert any("in_proj_weight" in name for name in lowered)
    assert any("mlp.c_fc.weight" in name for name in lowered)
    assert any("conv1.weight" in name for name in lowered)
    assert not any("ln_" in name or "positional" in name for name in lowered)


def test_no_container_adopts_it(tmp_path: Path) -> None:
    frozen = load_teacher("x", tiny.save_python(tmp_path), base=tmp_path)
    student = nn.Module()
    student.teacher = frozen
    student.train()
    assert not any(part.training for module in frozen.modules for part in module.modules())
    assert list(student.parameters()) == []
    assert student.state_dict() == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["open_clip", "clip", "dinov2", "sam", "timm", "bert", "onnx", "python"])
def test_on_a_gpu(name: str, precision: str, tmp_path: Path) -> None:
    if name == "onnx" and precision == "bfloat16":
        pytest.skip("graphs have a precision of their own")
    config = tiny.SAVERS[name](tmp_path)
    host = load_teacher(name, config, base=tmp_path)
    device = load_teacher(name, config.model_copy(update={"precision": precision}), base=tmp_path).to("cuda")
    found, exact = [], []
    for frozen, outputs in ((host, exact), (device, found)):
        if (spec := frozen.card.input) is not None:
            rasters = torch.arange(2 * spec.height * spec.width * 3) % 251
            outputs.append(
                frozen.image_embeddings(rasters.view(2, spec.height, spec.width, 3).to(torch.uint8))
            )
        if "text" in frozen.card.signals:
            outputs.append(frozen.text_embeddings(["chest ct", "a lesion"]))
    for theirs, ours in zip(exact, found, strict=True):
        assert ours.device.type == "cuda"
        assert ours.dtype == torch.float32
        assert torch.cosine_similarity(ours.cpu(), theirs).min() > (
            0.9999 if precision == "float32" else 0.98
        )
