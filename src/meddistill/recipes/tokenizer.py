"""The tokenizer of a student with a vocabulary of its own: trained once a run, on the training captions."""

import hashlib
from typing import Any, Final

from tokenizers import Tokenizer

from meddistill.data.samples import Samples
from meddistill.files import write_whole
from meddistill.progress import Progress
from meddistill.recipes.run_folder import RunFolder, digest
from meddistill.students.vocabulary import train_tokenizer

_STEP: Final = "tokenizer"


def tokenizer_of(samples: Samples, vocabulary: int, *, folder: RunFolder) -> Tokenizer:
    """The run folder's tokenizer, where it was trained on these captions, or one trained now.

    Raises ConfigError where no row has a caption.
    """
    if folder.state(_STEP, _inputs(samples, vocabulary)).done:
        return Tokenizer.from_file(str(folder.tokenizer))
    return trained_tokenizer(samples, vocabulary)


def trained_tokenizer(samples: Samples, vocabulary: int) -> Tokenizer:
    """A tokenizer trained on these captions. Raises ConfigError where no row has one."""
    texts = samples.texts or ("",) * len(samples)
    return train_tokenizer(texts, vocabulary=vocabulary, patients=samples.patients)


def keep_tokenizer(
    tokenizer: Tokenizer, samples: Samples, vocabulary: int, *, folder: RunFolder, progress: Progress
) -> None:
    """Write the tokenizer into the run folder, unless it is there."""
    for line in smaller_than_requested(tokenizer, vocabulary):
        progress.say(line)
    inputs = _inputs(samples, vocabulary)
    if not folder.state(_STEP, inputs).done:
        write_whole(folder.tokenizer, tokenizer.to_str(pretty=True).encode())
        folder.finish(_STEP, inputs, files=[folder.tokenizer], tokens=tokenizer.get_vocab_size())


def smaller_than_requested(tokenizer: Tokenizer, vocabulary: int) -> tuple[str, ...]:
    """A line where the captions gave fewer tokens than `vocabulary`."""
    size = tokenizer.get_vocab_size()
    if size == vocabulary:
        return ()
    return (
        f"vocabulary: {size:,} tokens instead of {vocabulary:,}, since the training captions have no more",
    )


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """sha256 of everything that decides the ids."""
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def _inputs(samples: Samples, vocabulary: int) -> dict[str, Any]:
    return {"vocabulary": vocabulary, "captions": digest([samples.texts, samples.patients])}
