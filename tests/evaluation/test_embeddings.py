"""Embeddings by content: computed once, found again, made again where damaged."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_world import ColourModel, table

from meddistill.data.config import TableConfig
from meddistill.data.samples import Samples
from meddistill.data.table import read_table
from meddistill.errors import NonFiniteError, TeacherError
from meddistill.evaluation.models import cache as embeddings_module
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.models.torch_models import ModelEmbedder
from meddistill.imaging import InputSpec, decode
from meddistill.licences import KNOWN
from meddistill.progress import SilentProgress
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.frozen import FrozenTeacher


def _samples(world: Path, split: str = "test") -> Samples:
    return read_table(TableConfig.model_validate(table(split)), base=world)


def _open(model: ColourModel, folder: Path) -> Embeddings:
    return Embeddings(model, folder=folder, progress=SilentProgress())


def test_images_are_embedded_once_whatever_the_table(world: Path, tmp_path: Path) -> None:
    samples, model = _samples(world), ColourModel()
    first = _open(model, tmp_path)
    whole = first.images(samples)
    np.testing.assert_array_equal(first.images(samples.take([3, 0, 3])), whole[[3, 0, 3]])
    np.testing.assert_array_equal(_open(model, tmp_path).images(samples), whole)
    assert model.images_seen == len(samples)
    np.testing.assert_array_equal(whole, ColourModel().embed_images(samples, advance=lambda _: None))


def test_copies_of_an_image_are_embedded_once(world: Path, tmp_path: Path) -> None:
    model = ColourModel()
    found = _open(model, tmp_path).images(_samples(world).take([0, 1, 0, 0]))
    assert model.images_seen == 2
    np.testing.assert_array_equal(found[0], found[3])


def test_another_fingerprint_is_another_model(world: Path, tmp_path: Path) -> None:
    _open(ColourModel(), tmp_path).images(_samples(world))
    other = ColourModel(seed=1)
    found = _open(other, tmp_path).images(_samples(world))
    np.testing.assert_array_equal(found, other.embed_images(_samples(world), advance=lambda _: None))


def test_a_dead_run_goes_on_where_it_stopped(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embeddings_module, "SHARD_ROWS", 4)
    samples = _samples(world)

    class Dying(ColourModel):
        def embed_images(self, samples: Samples, *, advance: Callable[[int], None]) -> np.ndarray:
            if self.images_seen >= 8:
                raise KeyboardInterrupt
            return super().embed_images(samples, advance=advance)

    with pytest.raises(KeyboardInterrupt):
        _open(Dying(), tmp_path).images(samples)
    model = ColourModel()
    assert len(_open(model, tmp_path).images(samples)) == len(samples)
    assert model.images_seen == len(samples) - 8


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_part_is_made_again(world: Path, tmp_path: Path, damage: str) -> None:
    whole = _open(ColourModel(), tmp_path).images(_samples(world))
    path = next(tmp_path.rglob("image-*.safetensors"))
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-3] ^= 0x40
    path.write_bytes(content[: -40 if damage == "cut" else None])
    model = ColourModel()
    np.testing.assert_array_equal(_open(model, tmp_path).images(_samples(world)), whole)
    assert model.images_seen == len(whole)


def test_numbers_that_are_not_finite_name_their_rows(world: Path, tmp_path: Path) -> None:
    class Broken(ColourModel):
        def embed_images(self, samples: Samples, *, advance: Callable[[int], None]) -> np.ndarray:
            found = super().embed_images(samples, advance=advance)
            found[2, 0] = np.nan
            return found

    samples = _samples(world)
    with pytest.raises(NonFiniteError, match=rf"student must be finite.*row {samples.rows[2]}\."):
        _open(Broken(), tmp_path).images(samples)


def test_texts_are_known_by_what_the_tokenizer_sees(tmp_path: Path) -> None:
    class Counting(ColourModel):
        asked = 0

        def embed_texts(self, texts: Sequence[str]) -> np.ndarray | None:
            self.asked += len(texts)
            return super().embed_texts(texts)

    model = Counting()
    found = _open(model, tmp_path).texts(["a red image", "A  red image", "blue"])
    assert model.asked == 2
    np.testing.assert_array_equal(found[0], found[1])
    assert _open(ColourModel(has_text=False), tmp_path).has_text is False


def test_a_row_of_zeros_stays_so() -> None:
    np.testing.assert_allclose(normalized(np.array([[3.0, 4.0], [0, 0]])), [[0.6, 0.8], [0, 0]])


class _MeanColour(torch.nn.Module):
    """Three numbers an image; reads no texts."""

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean(dim=(2, 3))


def _card(**more: object) -> TeacherCard:
    content = {
        "id": "mean",
        "kind": "python",
        "source": "tests",
        "library": "tests",
        "weights_sha256": "0" * 64,
        "licence": KNOWN["own"],
        "input": InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1)),
        "dims": {"image": 3},
        "signals": {"image"},
        "parameters": 0,
    }
    return TeacherCard.model_validate({**content, **more})


def test_a_teacher_is_evaluated_in_the_order_of_the_samples(world: Path) -> None:
    embedder = ModelEmbedder(FrozenTeacher(_MeanColour(), card=_card()), batch_size=5)
    samples = _samples(world)
    found = embedder.embed_images(samples, advance=lambda _: None)
    means = [decode(ref, samples.options).mean(axis=(0, 1)) / 255 for ref in samples.refs]
    np.testing.assert_allclose(found, means, atol=1e-5)
    assert embedder.embed_texts(["a"]) is None
    assert (embedder.name, embedder.role, embedder.logit_scale) == ("mean", "teacher", None)


def test_a_teacher_of_texts_alone_is_refused() -> None:
    card = _card(signals={"text"}, dims={"text": 3})
    with pytest.raises(TeacherError, match="must embed images"):
        ModelEmbedder(FrozenTeacher(_MeanColour(), card=card))
