"""The light image towers: each trains, keeps through a folder what it is, and becomes an ONNX model."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from meddistill.bundle.onnx_export import ImageTower, export_image_tower
from meddistill.bundle_format import IMAGE_MODEL
from meddistill.errors import BundleError
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig, TextTower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import load_student, save_student
from meddistill.students.metadata import Provenance
from plain_batch import batch_of

SMALL_TEXT = TextTower(width=32, heads=1, layers=1, context_length=16)
# timm's vision transformers take their own size only.
TOWERS = {
    "mobilenetv4_conv_small": 64,
    "mobilenetv4_conv_medium": 64,
    "repvit_m0_9": 64,
    "efficientvit_b0": 64,
    "efficientvit_b1": 64,
    "tf_efficientnet_lite0": 64,
    "vit_tiny_patch16_224": 224,
}


def student_of(tower: str, size: int) -> DualEncoder:
    config = StudentConfig(image_tower=tower, image_size=size, embed_dim=32, text=SMALL_TEXT)
    return build_student(config, base=Path(), seed=0)


def pictures(size: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("tower", "size"), TOWERS.items())
def test_a_step_moves_the_tower_and_the_folder_keeps_it(tower: str, size: int, tmp_path: Path) -> None:
    student = student_of(tower, size)
    before = {name: each.detach().clone() for name, each in student.model.visual.named_parameters()}
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    outputs = student(batch_of(pictures(size, 4), student.tokenize(["a", "b", "c", "d"])))
    logits = outputs.logit_scale * torch.nn.functional.normalize(outputs.image) @ outputs.text.T
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    optimizer.step()
    after = dict(student.model.visual.named_parameters())
    assert all(each.grad is not None and each.grad.isfinite().all() for each in after.values())
    assert any(not torch.equal(old, after[name]) for name, old in before.items())
    student.eval()
    save_student(student, tmp_path / "student", provenance=Provenance())
    loaded = load_student(tmp_path / "student").eval()
    with torch.no_grad():
        expected = student.embed_images(pictures(size, 2))
        assert expected.isfinite().all()
        assert torch.equal(loaded.embed_images(pictures(size, 2)), expected)


@pytest.mark.parametrize("tower", ["repvit_m0_9", "efficientvit_b0"])
def test_the_exported_tower_is_the_trained_one_at_every_batch_size(tower: str, tmp_path: Path) -> None:
    student = student_of(tower, TOWERS[tower])
    *first, last = student.model.visual.trunk.stages
    for kept, stages in ((1, first), (2, [last])):  # a block of each kind: more of them are exported alike
        for stage in stages:
            stage.blocks = stage.blocks[:kept]
    with torch.no_grad():
        student.embed_images(pictures(64, 4))  # running statistics of its own, so that folding them shows
    student.eval()
    weights = {name: each.clone() for name, each in student.state_dict().items()}
    export_image_tower(student, tmp_path, metadata={})
    assert all(torch.equal(each, student.state_dict()[name]) for name, each in weights.items())
    session = onnxruntime.InferenceSession(tmp_path / IMAGE_MODEL, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        rasters = pictures(64, batch)
        with torch.no_grad():
            expected = torch.nn.functional.normalize(student.embed_images(rasters), dim=-1)
        (found,) = session.run(None, {"pixels": student.pixels(rasters).numpy()})
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)


def test_branches_for_training_are_folded_in_a_copy() -> None:
    student = student_of("repvit_m0_9", 32).eval()
    kinds = [type(each) for each in student.model.visual.trunk.modules()]
    folded = [type(each) for each in ImageTower(student).modules()]
    assert kinds.count(torch.nn.BatchNorm2d) > 50
    assert torch.nn.BatchNorm2d not in folded
    assert folded.count(torch.nn.Conv2d) < kinds.count(torch.nn.Conv2d) - 10  # a branch a block
    assert [type(each) for each in student.model.visual.trunk.modules()] == kinds


def test_a_tower_that_torch_cannot_export_is_refused_in_words(tmp_path: Path) -> None:
    class Untraceable(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.mean(dim=(2, 3)) if pixels.sum() > 0 else pixels.amax(dim=(2, 3))

    student = student_of("test_resnet", 64).eval()
    student.model.visual = Untraceable()
    with pytest.raises(BundleError, match=r"image tower must be one that torch can export; .*Choose another"):
        export_image_tower(student, tmp_path, metadata={})
