"""A vocabulary trained on captions: the same ids in training, in stock open_clip and in a bundle."""

import random
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from tokenizers import Tokenizer

from meddistill.bundle.tokenizer import write_tokenizer
from meddistill.errors import ConfigError
from meddistill.imaging import normalize_text
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig, TextTower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.folder import load_student, save_student
from meddistill.students.metadata import Provenance
from meddistill.students.size import vocabulary_size
from meddistill.students.vocabulary import END, PADDING, START, train_tokenizer
from meddistill.teachers.config import OpenClipTeacher
from meddistill.teachers.load import load_teacher

SIZE = 300
CAPTIONS = [
    f"{side} {organ}: {finding}, {number} mm"
    for side in ("left", "right")
    for organ in ("lung", "kidney", "ovary")
    for finding in ("normal", "a nodule", "no effusion")
    for number in (4, 17)
]
ODD = [
    "", "   ", "LEFT Lung", "&lt;b&gt; 5 &amp;amp; 6&nbsp;mm", "doesnâ€™t — naïve ﬁ ½ İ ſ",
    "胸部 CT \u200b 🫁 e\u0301", "tab\tline\nnull\x00 bell\x07 \x1c", "nodule " * 200, "!" * 300,
    f"{END} lung {START} {PADDING} {END.lower()}", "\U000e0001 \u202e rtl \u0378", "a\u2028b\u0085c\u3000",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CAPTIONS, vocabulary=SIZE)


def built(tokenizer: Tokenizer | None, **config: object) -> DualEncoder:
    text = {"width": 32, "heads": 2, "layers": 1, "context_length": 24, "vocabulary": SIZE}
    settings = StudentConfig.model_validate({"preset": "tiny", "text": text, **config})
    return build_student(settings, base=Path(), seed=0, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def student(tokenizer: Tokenizer) -> DualEncoder:
    return built(tokenizer).eval()


@pytest.fixture(scope="module")
def folder(student: DualEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("vocabulary") / "student"
    save_student(student, place, provenance=Provenance())
    return place


def test_the_order_and_number_of_captions_do_not_matter(tokenizer: Tokenizer) -> None:
    shuffled = [*CAPTIONS, *CAPTIONS[:7], ""]
    random.Random(1).shuffle(shuffled)
    assert train_tokenizer(shuffled, vocabulary=SIZE).to_str() == tokenizer.to_str()
    assert train_tokenizer(CAPTIONS[:12], vocabulary=SIZE).to_str() != tokenizer.to_str()


def test_a_word_is_one_token_wherever_it_stands_and_the_end_has_the_highest_id(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == SIZE
    assert tokenizer.token_to_id(END) == SIZE - 1
    first, again = tokenizer.encode("lung, left lung").ids[1:], tokenizer.encode("lung").ids[1:-1]
    assert first[0] == first[-2] == again[0]
    assert tokenizer.decode(tokenizer.encode("left lung: 17 mm").ids).strip() == "left lung: 17 mm"


def test_uniform_captions_give_a_smaller_vocabulary() -> None:
    small = train_tokenizer(["a nodule", "no nodule"], vocabulary=1000)
    assert 256 + 3 < small.get_vocab_size() < 280
    with pytest.raises(ConfigError, match=r"`text\.vocabulary` must have captions"):
        train_tokenizer(["", " \n"], vocabulary=1000)


def test_words_of_one_patient_and_numbers_become_no_tokens() -> None:
    captions = [f"nodule of zebrafish 471123, slice {number}" for number in range(9)]
    others = [f"nodule, slice {number} of 471123" for number in range(9)]
    patients = ["one"] * 9 + ["two"] * 9
    kept = train_tokenizer([*captions, *others], vocabulary=1000, patients=patients).get_vocab()
    assert "Ġnodule" in kept
    assert not [token for token in kept if set("zbf") <= set(token) or len(set("123457") & set(token)) > 1]
    assert "Ġzebrafish" in train_tokenizer([*captions, *others], vocabulary=1000).get_vocab()


def test_ids_are_the_same_everywhere_for_odd_texts(
    student: DualEncoder, folder: Path, tmp_path: Path
) -> None:
    texts = [*ODD, *CAPTIONS]
    ids = student.tokenize(texts)
    assert ids.shape == (len(texts), 24)
    write_tokenizer(student.tokenizer, tmp_path / "tokenizer.json")
    runtime = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rows = [each.ids for each in runtime.encode_batch([normalize_text(text) for text in texts])]
    assert np.array_equal(np.array(rows), ids.numpy())
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{folder}")(texts), ids.long())
    assert torch.equal(load_student(folder).tokenize(texts), ids)
    # One start, one end that pooling at the highest id finds, padding behind it.
    end, padding = SIZE - 1, SIZE - 3
    for row in ids.tolist():
        last = row.index(end)
        assert row[0] == SIZE - 2
        assert set(row[last + 1 :]) <= {padding}
        assert not {end, padding} & set(row[:last])
    assert ids[ODD.index("nodule " * 200), -1] == end
    assert student.tokenizer.lengths(["", "nodule " * 200])[0] == 2


def test_the_folder_gives_the_same_embeddings_in_stock_open_clip_and_as_a_teacher(
    student: DualEncoder, folder: Path
) -> None:
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        own = student.embed_tokens(student.tokenize(ODD))
        assert torch.equal(model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(ODD)), own)
    teacher = load_teacher("own", OpenClipTeacher(kind="open_clip", model=f"local-dir:{folder}"), base=folder)
    torch.testing.assert_close(teacher.text_embeddings(ODD), own, rtol=0, atol=1e-5)
    mask = teacher.text_tokens(["left lung", "nodule " * 200]).mask
    assert mask.sum(1).tolist() == [student.tokenizer.lengths(["left lung"])[0], 24]


def test_training_leaves_out_the_padding(student: DualEncoder) -> None:
    seen = []
    hook = student.model.text.transformer.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[1])
    )
    tokens = student.tokenize(["left lung", "right kidney: normal"])
    trained, whole = student.train().embed_tokens(tokens), student.eval().embed_tokens(tokens)
    hook.remove()
    torch.testing.assert_close(trained, whole, rtol=1e-4, atol=1e-5)
    assert seen == [8, 24]


def test_a_student_starts_from_a_folder_with_its_vocabulary(student: DualEncoder, folder: Path) -> None:
    again = build_student(StudentConfig(init=str(folder)), base=Path(), seed=5).eval()
    assert torch.equal(again.tokenize(ODD), student.tokenize(ODD))
    with torch.no_grad():
        own = student.embed_tokens(student.tokenize(ODD))
        assert torch.equal(again.embed_tokens(again.tokenize(ODD)), own)


def test_the_table_has_a_row_for_each_token(student: DualEncoder, tiny: DualEncoder) -> None:
    assert (vocabulary_size(student).tokens, vocabulary_size(student).parameters) == (SIZE, SIZE * 32)
    assert vocabulary_size(tiny).parameters == 49408 * 128


def test_what_brings_tokens_of_its_own_takes_no_vocabulary(
    tokenizer: Tokenizer, folder: Path, bert_folder: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"`text\.vocabulary` must be absent where `init` brings a text tower"
    ):
        built(tokenizer, init=str(folder))
    assert built(tokenizer, init=str(folder), init_towers="image").tokenize(["a"]).shape == (1, 24)
    with pytest.raises(ConfigError, match=r"must be absent for a Hugging Face text tower"):
        built(tokenizer, preset="base", text=TextTower(vocabulary=SIZE))
    with pytest.raises(ValueError, match=r"`text\.vocabulary` must be absent where `text\.hf`"):
        StudentConfig(text=TextTower(hf=str(bert_folder), vocabulary=SIZE))
    with pytest.raises(ConfigError, match=r"must come with the tokenizer that was trained"):
        built(None)
