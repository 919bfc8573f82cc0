"""A small BERT with a vocabulary of its own, as the folder that `text_cfg.hf_model_name` names."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import BertConfig, PreTrainedTokenizerFast

SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
MOST_WORDS = 4000


def write_bert(folder: Path, captions: Sequence[str], *, width: int, layers: int, context: int) -> None:
    """Write configuration and WordPiece tokenizer, learnt from `captions`, unless they are there."""
    if (folder / "config.json").is_file():
        return
    tokenizer = Tokenizer(WordPiece(unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.train_from_iterator(
        sorted(captions),
        WordPieceTrainer(vocab_size=MOST_WORDS, special_tokens=list(SPECIAL.values()), show_progress=False),
    )
    ends = [(SPECIAL[name], tokenizer.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        max_position_embeddings=context,
    ).save_pretrained(folder)
