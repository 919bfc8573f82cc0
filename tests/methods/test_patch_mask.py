"""Which patches are hidden, and that only the method that asks for it pays."""

import math

import pytest
import torch

from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.patch_mask import kept_pixels
from meddistill.objectives.config import MASKED, HiddenPatches
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from toy_training import DEVICE, EVERY_OBJECTIVE, ToyStudent, toy_batch, toy_method, toy_step

SAMPLES = torch.arange(200, device=DEVICE) * 37


def drawn(masked: HiddenPatches, samples=SAMPLES, side: int = 64, seed: int = 1) -> torch.Tensor:
    return kept_pixels(masked, samples, height=side, width=side, seed=seed)


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.5, 8), (0.9, 2), (0.99, 1), (0.01, 16)])
def test_as_many_whole_patches_are_kept_in_every_row(ratio, kept) -> None:
    keep = drawn(HiddenPatches(patch_size=16, ratio=ratio))
    patches = keep.view(len(SAMPLES), 4, 16, 4, 16).permute(0, 1, 3, 2, 4).flatten(3)
    assert (patches.all(dim=3) | ~patches.any(dim=3)).all()
    assert (patches[..., 0].sum(dim=(1, 2)) == kept).all()


def test_patches_at_the_edge_are_cut() -> None:
    keep = kept_pixels(HiddenPatches(patch_size=16, ratio=0.5), SAMPLES, height=40, width=24, seed=0)
    assert keep.shape == (len(SAMPLES), 40, 24)
    assert (keep[:, 32, ::16].sum(dim=1) + keep[:, :32:16, ::16].sum(dim=(1, 2)) == 3).all()


def test_a_mask_depends_on_seed_and_row_alone() -> None:
    masked = HiddenPatches(patch_size=16, ratio=0.75)
    whole = drawn(masked)
    torch.rand(3)
    order = torch.randperm(len(SAMPLES), device=DEVICE)
    assert drawn(masked, SAMPLES[order]).equal(whole[order])
    assert drawn(masked, SAMPLES[7:9]).equal(whole[7:9])
    assert drawn(masked, SAMPLES.cpu()).equal(whole.cpu())
    other = drawn(masked, seed=2)
    equal = (other == whole).all(dim=(1, 2)).float().mean()
    assert equal < 0.03


def test_patches_are_kept_equally_often_and_independently() -> None:
    """1820 masks of 4 in 16; over 4000 rows a patch is kept in a quarter, two of them in 4·3 of 16·15."""
    samples = torch.arange(4000, device=DEVICE)
    keep = drawn(HiddenPatches(patch_size=16, ratio=0.75), samples)[:, ::16, ::16].flatten(1).double()
    together = keep.T @ keep / len(samples)
    deviation = math.sqrt(0.25 * 0.75 / len(samples))
    assert (together.diag() - 0.25).abs().max() < 4.5 * deviation
    off = together[~torch.eye(16, dtype=torch.bool, device=DEVICE)]
    assert (off - 0.05).abs().max() < 4.5 * math.sqrt(0.05 * 0.95 / len(samples))


def test_masked_pixels_show_the_mean_colour_of_the_students_normalization(tmp_path) -> None:
    student = build_student(StudentConfig(preset="tiny"), base=tmp_path, seed=0).to(DEVICE)
    seen = []
    student.model.visual.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    side = student.input.geometry.height
    rasters = torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, device=DEVICE)
    masked = HiddenPatches(patch_size=16, ratio=0.75)
    keep = drawn(masked, torch.tensor([3, 8], device=DEVICE), side, seed=0)
    student.embed_images(rasters)
    student.embed_images(rasters, keep=keep)
    whole, hidden = seen
    kept = keep[:, None].expand_as(whole)
    assert hidden[kept].equal(whole[kept])
    assert (hidden[~kept] == 0).all()


def test_only_a_method_that_asks_for_masked_images_pays_for_them() -> None:
    seen = []

    class Watched(ToyStudent):
        def embed_images(self, rasters, *, keep=None):
            seen.append(keep)
            return super().embed_images(rasters, keep=keep)

    toy_step(Watched(), toy_method())(toy_batch(range(6)), step=0)
    assert seen == [None]
    seen.clear()
    method = toy_method(EmbeddingConfig.model_validate(EVERY_OBJECTIVE))
    assert dict(method.passes)[MASKED] == HiddenPatches(patch_size=2, ratio=0.5)
    toy_step(Watched(), method)(toy_batch(range(6)), step=0)
    toy_step(Watched(), method)(toy_batch(range(6)), step=1)
    assert [each is None for each in seen] == [True, False] * 2
    assert not seen[1].equal(seen[3])
