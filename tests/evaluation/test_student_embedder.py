"""The student is judged in the form in which it ships: as stock open_clip loads its folder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_world import ColourModel, table
from transformers import BertConfig

from meddistill.data.config import TableConfig
from meddistill.data.samples import Samples
from meddistill.data.table import read_table
from meddistill.errors import CheckpointError
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Embedder, TokenEmbedder
from meddistill.evaluation.models.torch_models import ModelEmbedder, load_student_as_teacher
from meddistill.imaging import decode, rasterize
from meddistill.progress import SilentProgress
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import save_student
from meddistill.students.metadata import Provenance
from meddistill.teachers.frozen import FrozenTeacher
from tiny_words import TEXT, save_words, vocabulary_size

TEXTS = ["A CT.", "an x-ray with &amp;amp; naïve  words", "long " * 200]
SMALL_BERT = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {
        "context_length": 24,
        "hf_model_name": "",
        "hf_tokenizer_name": "",
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
    },
}


@pytest.fixture(scope="module")
def student() -> DualEncoder:
    return build_student(StudentConfig(preset="tiny"), base=Path(), seed=0).eval()


@pytest.fixture(scope="module")
def folder(student: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "student"
    save_student(student, place, provenance=Provenance())
    return place


@pytest.fixture(scope="module")
def judged(folder: Path) -> FrozenTeacher:
    return load_student_as_teacher(folder)


def _samples(world: Path) -> Samples:
    return read_table(TableConfig.model_validate(table("test")), base=world)


def test_the_saved_folder_gives_the_students_own_embeddings(
    world: Path, student: DualEncoder, judged: FrozenTeacher
) -> None:
    embedder = ModelEmbedder(judged, name="mine", role="student", batch_size=5)
    samples = _samples(world)
    seen: list[int] = []
    found = embedder.embed_images(samples, advance=seen.append)
    rasters = np.stack(
        [rasterize(decode(ref, samples.options), student.input.geometry) for ref in samples.refs]
    )
    with torch.no_grad():
        oracle = student.embed_images(torch.from_numpy(rasters)).numpy()
        texts = student.embed_tokens(student.tokenize(TEXTS)).numpy()
    np.testing.assert_allclose(found, oracle, atol=1e-5)
    np.testing.assert_allclose(embedder.embed_texts(TEXTS), texts, atol=1e-6)
    assert sum(seen) == len(samples)
    assert embedder.logit_scale == pytest.approx(float(student.logit_scale.detach()))
    assert (embedder.name, embedder.role) == ("mine", "student")
    assert isinstance(embedder, Embedder)
    assert isinstance(embedder, TokenEmbedder)


def test_a_student_with_words_of_its_own_is_the_same_too(tmp_path: Path) -> None:
    save_words(tmp_path / "words")
    BertConfig(vocab_size=vocabulary_size(tmp_path / "words"), pad_token_id=0, **TEXT).save_pretrained(
        tmp_path / "words"
    )
    (tmp_path / "small.json").write_text(json.dumps({"model_cfg": SMALL_BERT}))
    settings = StudentConfig.model_validate({"open_clip": "small.json", "text": {"hf": "words"}})
    student = build_student(settings, base=tmp_path, seed=0).eval()
    save_student(student, tmp_path / "student", provenance=Provenance())
    judged = load_student_as_teacher(tmp_path / "student")
    texts = ["a chest X-ray", "the left lesion and the right"]
    with torch.no_grad():
        oracle = student.embed_tokens(student.tokenize(texts))
    torch.testing.assert_close(judged.text_embeddings(texts), oracle, rtol=0, atol=1e-6)


def test_tokens_have_the_shapes_that_they_claim(
    world: Path, student: DualEncoder, judged: FrozenTeacher
) -> None:
    embedder = ModelEmbedder(judged, batch_size=5)
    samples = _samples(world)
    patches = embedder.image_tokens(samples, advance=lambda _: None)
    assert patches is not None
    assert patches.grid == (2, 2)
    assert patches.values.shape[:2] == patches.mask.shape == (len(samples), 4)
    assert patches.values.dtype == np.float16
    assert patches.mask.all()
    words = embedder.text_tokens(TEXTS)
    assert words is not None
    assert words.mask.sum(axis=1).tolist() == [min(77, count) for count in student.tokenizer.lengths(TEXTS)]
    alone = embedder.text_tokens(TEXTS[:1])
    assert alone is not None
    np.testing.assert_allclose(words.values[0, :5], alone.values[0, :5], atol=2e-3)


def test_a_changed_file_is_not_judged(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "student"
    shutil.copytree(folder, copy)
    weights = copy / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="must be the file that was written"):
        load_student_as_teacher(copy)


def test_tokens_are_kept_and_found_again(
    world: Path, judged: FrozenTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = _samples(world)
    first = _open(judged, tmp_path)
    patches, words = first.image_tokens(samples), first.text_tokens(TEXTS)
    assert patches is not None
    assert words is not None
    whole = ModelEmbedder(judged).image_tokens(samples, advance=lambda _: None)
    texts = ModelEmbedder(judged).text_tokens(TEXTS)
    assert whole is not None
    assert texts is not None
    np.testing.assert_array_equal(patches.values, whole.values)
    assert patches.grid == whole.grid
    np.testing.assert_array_equal(words.mask, texts.mask)
    np.testing.assert_array_equal(words.values[words.mask], texts.values[texts.mask])
    again = _open(judged, tmp_path)
    for name in ("patch_tokens", "text_tokens"):
        monkeypatch.setattr(FrozenTeacher, name, lambda *_: pytest.fail("asked again"))
    few = again.image_tokens(samples.take([4, 1]))
    assert few is not None
    np.testing.assert_array_equal(few.values, whole.values[[4, 1]])
    one = again.text_tokens(TEXTS[:1])
    assert one is not None
    assert one.values.shape[1] == texts.mask[0].sum()


def test_a_model_without_tokens_gives_none(world: Path, tmp_path: Path) -> None:
    embeddings = Embeddings(ColourModel(), folder=tmp_path, progress=SilentProgress())
    assert embeddings.image_tokens(_samples(world)) is None
    assert embeddings.text_tokens(TEXTS) is None


def _open(judged: FrozenTeacher, folder: Path) -> Embeddings:
    return Embeddings(ModelEmbedder(judged), folder=folder, progress=SilentProgress())
