"""The one normaliser of texts."""

import html

import ftfy

# The name of `normalize_text` in files; a change of what it does takes another name.
TEXT_NORMALIZER = "open_clip_lower"


def normalize_text(text: str) -> str:
    """A text as open_clip's SimpleTokenizer sees it before byte-pair encoding.

    Mojibake, curly quotes, ligatures and control characters are mended (ftfy), HTML entities resolved twice,
    white space collapsed, letters lowered. The tokenizer of a bundle is fed with this, so that it needs no
    torch and still gives the ids that the student was trained on.
    """
    mended = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(mended.split()).lower()
