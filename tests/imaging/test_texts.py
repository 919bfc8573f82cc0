"""The text normaliser against open_clip's own cleaning, on nasty strings and on real captions."""

import csv
from pathlib import Path

import pytest

from meddistill.imaging import normalize_text

NASTY = [
    "",
    "   ",
    "Chest X-ray, PA view.",
    "“curly” ‘quotes’ and – dashes —",
    "the ﬁrst ﬂuid ﬀ ligatures",
    "&amp; &lt;b&gt; &amp;lt; &quot;hi&quot; &#233; &nbsp;x",
    "&amp;amp;amp;lt; thrice escaped",
    "cafÃ© dâ€™or: mojibake",
    "bell\x07 null\x00 escape\x1b[31m red",
    "tabs\tand\nnew\r\nlines\u2028sep\u00a0nbsp\u3000wide\u200bzero",
    "ΟΔΥΣΣΕΥΣ ΤΕΛΟΣ",
    "İstanbul STRASSE ẞ",
    "e\u0301 combining, Å angstrom, ½ μm µm",
    "ｆｕｌｌ　ｗｉｄｔｈ",
    "<start_of_text> <end_of_text> markup",
    "emoji 🩻🫁 and \ud83e",
    "مرحبا 中文 한글",
    "A" * 3000,
]


def _theirs(text: str) -> str:
    tokenizer = pytest.importorskip("open_clip.tokenizer")
    return tokenizer.get_clean_fn("lower")(text)


@pytest.mark.parametrize("text", NASTY)
def test_equals_open_clip(text: str) -> None:
    assert normalize_text(text) == _theirs(text)


def test_equals_open_clip_on_real_captions_and_settles_at_once(real_data: Path) -> None:
    with (real_data / "pairs.csv").open(encoding="utf-8") as file:
        captions = {row["text"] for row in csv.DictReader(file)}
    assert len(captions) > 1000
    for caption in captions:
        mended = normalize_text(caption)
        assert mended == _theirs(caption)
        assert normalize_text(mended) == mended


def test_by_hand() -> None:
    assert normalize_text("  The “ﬁrst”\n&amp;lt;CT&amp;gt; ΤΕΛΟΣ ") == 'the "first" <ct> τελος'
