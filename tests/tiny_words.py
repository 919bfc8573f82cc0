"""A tiny vocabulary for text towers, and the tower that reads it."""

from pathlib import Path

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a the of no chest ct mri with and lesion normal pneumonia left right"
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}


def save_words(folder: Path, *, max_length: int | None = 24) -> None:
    """A BERT tokenizer over `WORDS` with single letters as pieces."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*WORDS.split(), *letters, *(f"##{letter}" for letter in letters), *".,-"]
    vocabulary = {word: row for row, word in enumerate(dict.fromkeys(words))}
    length = {} if max_length is None else {"model_max_length": max_length}
    BertTokenizer(vocab=vocabulary, do_lower_case=True, **length).save_pretrained(folder)


def vocabulary_size(folder: Path) -> int:
    from transformers import AutoTokenizer

    return len(AutoTokenizer.from_pretrained(folder))
