"""A small vocabulary for text towers: byte pairs, trained on captions.

Byte-level byte-pair encoding: a word is its UTF-8 bytes, and the most frequent pair of neighbours is merged
until the vocabulary has its size. Every text has ids, since every byte has one. Of CLIP's own 49,408 tokens
medical captions use a small part.

Source: Sennrich et al. 2016 (byte-pair encoding), Radford et al. 2019 (over bytes).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from meddistill.errors import ConfigError
from meddistill.imaging import normalize_text

# `normalize_text` leaves no capital letters, so that none of these can stand in a caption.
PADDING: Final = "<PAD>"
START: Final = "<START>"
END: Final = "<END>"
_SPECIAL: Final = (PADDING, START, END)  # the end token last: open_clip pools at the highest id
# A word with the space before it, one digit, or a run of anything else.
_PIECES: Final = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
_LEAST_FREQUENCY: Final = 2
_LEAST_PATIENTS: Final = 2
ANY_VERSION: Final = "PreTrainedTokenizerFast"  # the class that transformers 4 and 5 both know
_SUBJECT: Final = "student"


def train_tokenizer(
    captions: Sequence[str], *, vocabulary: int, patients: Sequence[str] | None = None
) -> Tokenizer:
    """A byte-pair tokenizer of at most `vocabulary` ids, the same for the same captions in any order.

    Captions are cleaned by `normalize_text` and count once each. Ids: the bytes, the merges, then padding,
    start and end, the end token with the highest. A pair that occurs once is not merged, and nothing is
    taken from a word that only one patient's captions have, so that a name of one patient becomes no token;
    digits are never merged. Few or uniform captions give fewer ids than asked for.

    Parameters
    ----------
    captions
        Texts as the table has them; those without a character are passed over.
    vocabulary
        The most ids that the tokenizer may have, the bytes and the three special tokens included.
    patients
        Whose each caption is; without it every distinct caption is of a patient of its own.

    Raises
    ------
    ConfigError
        If no caption has a character.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(_SPECIAL),
        min_frequency=_LEAST_FREQUENCY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(_words(split, captions, patients)), trainer)
    # Set after training, whose words have their space: a caption's first word is the token that it is later.
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.add_special_tokens(list(_SPECIAL))
    ends = [(name, tokenizer.token_to_id(name)) for name in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_tokenizer_files(tokenizer: Tokenizer, folder: Path, *, context_length: int) -> None:
    """Write a trained tokenizer as the two files from which transformers, and so open_clip, reads it."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": ANY_VERSION,
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
        "pad_token": PADDING,
        "bos_token": START,
        "eos_token": END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _words(split: Any, captions: Sequence[str], patients: Sequence[str] | None) -> Counter[str]:
    """Every word that captions of several patients have, and how often it stands in distinct captions."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for caption, patient in zip(captions, captions if patients is None else patients, strict=True):
        if text := normalize_text(caption):
            owners[text].add(patient if patients is not None else text)
    if not owners:
        msg = (
            "`text.vocabulary` must have captions to be trained on; got none with a character. Leave it out."
        )
        raise ConfigError(_SUBJECT, [msg])
    counts: Counter[str] = Counter()
    holders: defaultdict[str, set[str]] = defaultdict(set)
    for text, of in owners.items():
        pieces = [piece for piece, _ in split.pre_tokenize_str(f" {text}")]
        counts.update(pieces)
        for piece in pieces:
            if len(holders[piece]) < _LEAST_PATIENTS:
                holders[piece] |= of
    return Counter(
        {piece: count for piece, count in counts.items() if len(holders[piece]) >= _LEAST_PATIENTS}
    )


def _repeated(words: Counter[str]) -> Iterator[str]:
    for word, count in sorted(words.items()):
        yield from repeat(word, count)
