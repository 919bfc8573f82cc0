"""Views: determinism, independence, laterality, what the policy's dials do."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from meddistill.imaging import ViewPolicy, view

PICTURE = (np.add.outer(np.arange(48) * 5, np.arange(64) * 4)[:, :, None] % 256 + np.zeros(3)).astype(
    np.uint8
)
POLICY = ViewPolicy(horizontal_flip=0.5, vertical_flip=0.5)
STILL = ViewPolicy(scale=(1, 1), ratio=(1, 1), brightness=0, contrast=0, gamma=0)
GOLDEN = "f37bbbc4a9ac6f1e0dd1130bffe3d5596178ced29878c1937d69d0d20f0b97d7"


def _digest(order: list[int]) -> str:
    made = {k: view(PICTURE, image_id="image", index=k, policy=POLICY) for k in order}
    seen = hashlib.sha256()
    for k in sorted(made):
        seen.update(f"{k}{made[k].shape}".encode() + made[k].tobytes())
    return seen.hexdigest()


def test_golden_views_do_not_depend_on_process_or_order_of_calls() -> None:
    order = list(range(12))
    code = f"import sys; sys.path.insert(0, {__file__.rpartition('/')[0]!r}); import test_views as t; "
    code += f"print(t._digest({order[::-1]}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    np.random.default_rng(3).random(7)
    assert _digest(order) == other.stdout.strip() == GOLDEN


def test_view_zero_is_the_picture_itself() -> None:
    assert view(PICTURE, image_id="image", index=0, policy=POLICY) is PICTURE


def test_negative_views_are_refused() -> None:
    with pytest.raises(ValueError, match="`index` must be 0 or more; got -1"):
        view(PICTURE, image_id="image", index=-1, policy=POLICY)


def test_views_differ_by_image_index_and_policy() -> None:
    def digest(image_id: str, index: int, policy: ViewPolicy) -> bytes:
        made = view(PICTURE, image_id=image_id, index=index, policy=policy)
        return bytes(str(made.shape), "ascii") + made.tobytes()

    other = ViewPolicy(gamma=0.25)
    seen = {digest(image, k, policy) for image in "ab" for k in (1, 2) for policy in (ViewPolicy(), other)}
    assert len(seen) == 8


def test_crops_lie_inside_and_keep_the_asked_share() -> None:
    policy = ViewPolicy(scale=(0.3, 0.6), ratio=(0.8, 1.25), brightness=0, contrast=0, gamma=0)
    ramp = np.arange(200 * 300, dtype=np.int64).reshape(200, 300)
    coded = np.stack([ramp >> 16, ramp >> 8 & 255, ramp & 255], axis=2).astype(np.uint8)
    for k in range(1, 60):
        made = view(coded, image_id="image", index=k, policy=policy).astype(np.int64)
        share = made.shape[0] * made.shape[1] / (200 * 300)
        assert 0.28 < share < 0.62
        assert 0.75 < (made.shape[1] / 300) / (made.shape[0] / 200) < 1.3
        places = made[:, :, 0] * 65536 + made[:, :, 1] * 256 + made[:, :, 2]
        assert np.array_equal(np.diff(places, axis=1), np.ones_like(places)[:, 1:])  # not mirrored, one piece
        assert np.array_equal(np.diff(places, axis=0), np.full_like(places, 300)[1:])  # upright


def test_no_flips_unless_asked() -> None:
    assert (ViewPolicy().horizontal_flip, ViewPolicy().vertical_flip) == (0, 0)
    mirrored = STILL.model_copy(update={"horizontal_flip": 1.0})
    upside_down = STILL.model_copy(update={"vertical_flip": 1.0})
    assert np.array_equal(view(PICTURE, image_id="a", index=1, policy=STILL), PICTURE)
    assert np.array_equal(view(PICTURE, image_id="a", index=1, policy=mirrored), PICTURE[:, ::-1])
    assert np.array_equal(view(PICTURE, image_id="a", index=1, policy=upside_down), PICTURE[::-1])


@pytest.mark.parametrize("dial", ["brightness", "contrast", "gamma"])
def test_tone_changes_keep_the_order_of_greys(dial: str) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    policy = STILL.model_copy(update={dial: 0.3})
    changed = [view(ramp, image_id="a", index=k, policy=policy)[0, :, 0].astype(int) for k in range(1, 9)]
    assert all(np.all(np.diff(curve) >= 0) for curve in changed)
    assert len({tuple(curve) for curve in changed}) >= 5
    assert max(np.abs(curve - np.arange(256)).max() for curve in changed) <= 0.3 * 255 + 1


def test_tiny_pictures_have_views() -> None:
    for shape in ((1, 1, 3), (1, 50, 3), (2, 2, 3)):
        made = view(np.full(shape, 9, np.uint8), image_id="a", index=3, policy=POLICY)
        assert made.size >= 3


def test_fingerprint_names_the_policy() -> None:
    assert ViewPolicy().fingerprint == ViewPolicy().fingerprint
    assert len({ViewPolicy().fingerprint, ViewPolicy(gamma=0.21).fingerprint, POLICY.fingerprint}) == 3


@pytest.mark.parametrize(
    "wrong", [{"scale": (0.9, 0.5)}, {"ratio": (0, 1)}, {"scale": (0, 1)}, {"gamma": -1}, {"flip": 0.5}]
)
def test_policies_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ViewPolicy(**wrong)
