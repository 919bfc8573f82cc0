"""`tokenizer.json` gives the ids that the student was trained on, to the last strange character."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from meddistill.bundle.tokenizer import write_tokenizer
from meddistill.bundle.truncation import caption_lengths
from meddistill.errors import BundleError
from meddistill.imaging import normalize_text
from meddistill.students.tokenizers import CaptionTokenizer, ClipTokenizer, HuggingFaceTokenizer

NASTY = [
    "", "   ", "Chest X-ray: “no” eﬃusion, it’s CLEAR", "&amp;amp;amp;lt; 5 &lt; 6 mm&nbsp;",
    "doesnâ€™t <start_of_text> a <END_OF_TEXT>b !!! !", "ΣΊΣΥΦΟΣ ﬁ İ K ſ 'ſ it'ſ 胸部 \u200b 🫁 e\u0301",
    "tab\tline\nnull\x00 bell\x07", "word " * 200, "a\u2028b\u0085c\u00a0d\u3000e", "\ufeffbom",
    "’S 'Tis I'LL we'd", "½ ² ٣ Ⅳ", "\U000e0001 \u202e rtl \u0378", "\x1c\x1d\x1e\x1f x", "</w> a</w>",
    "<end_of_text", "<ſtart_of_text> x", "\u180e mongolian", "a_b-c/d\\e", "!" * 90,
]  # fmt: skip


def identical(tokenizer: CaptionTokenizer, texts: list[str], path: Path) -> None:
    write_tokenizer(tokenizer, path)
    encoded = Tokenizer.from_file(str(path)).encode_batch([normalize_text(text) for text in texts])
    found = np.array([each.ids for each in encoded])
    expected = tokenizer(texts).numpy()
    wrong = [
        text for text, row, want in zip(texts, found, expected, strict=True) if row.tolist() != want.tolist()
    ]
    assert wrong == []


def random_strings(count: int) -> list[str]:
    generator = random.Random(0)
    ranges = [(32, 127), (1, 0x250), (0x250, 0x3000), (0x3000, 0xD7FF), (0xE000, 0x10000), (0x10000, 0x20000)]
    return [
        "".join(
            chr(generator.randrange(*generator.choice(ranges))) for _ in range(generator.randrange(1, 40))
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("context_length", [77, 16])
def test_ids_are_identical_for_nasty_strings(context_length: int, tmp_path: Path) -> None:
    identical(ClipTokenizer(context_length), [*NASTY, *random_strings(2000)], tmp_path / "tokenizer.json")


def test_ids_are_identical_for_all_real_captions(real_data: Path, tmp_path: Path) -> None:
    with (real_data / "pairs.csv").open(encoding="utf-8") as file:
        captions = sorted({row["text"] for row in csv.DictReader(file)})
    assert len(captions) > 1000
    identical(ClipTokenizer(77), captions, tmp_path / "tokenizer.json")


def test_a_hugging_face_tokenizer_is_taken_with_its_context(bert_files: Path, tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(str(bert_files), 12)
    identical(tokenizer, ["Chest X-RAY", "", "abc " * 30, "ÀÉ chest"], tmp_path / "tokenizer.json")


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    class Other:
        kind = "clip"
        context_length = 4

    with pytest.raises(BundleError, match="got Other"):
        write_tokenizer(Other(), tmp_path / "tokenizer.json")  # type: ignore[arg-type]


def test_truncation_counts_distinct_captions() -> None:
    lengths = caption_lengths(ClipTokenizer(10), ["a b", "a b", "word " * 8, "word " * 9])
    assert lengths is not None
    assert (lengths.captions, lengths.cut, lengths.longest, lengths.median) == (3, 1, 11, 10)
    assert lengths.rate == pytest.approx(1 / 3)
    assert caption_lengths(ClipTokenizer(10), []) is None
