"""What a model finds for a few queries, chosen before anybody looked."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from meddistill.arrays import Floats32, Ints
from meddistill.evaluation.base.results import RetrievalExample
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.retrieval.metrics import DIRECTIONS
from meddistill.evaluation.tasks.retrieval.task import Retrieval, best_ranks

QUERIES: Final = 9
ANSWERS: Final = 5


def retrieval_examples(task: Retrieval, embeddings: Embeddings) -> Iterator[RetrievalExample]:
    """The best answers of one model to a few queries in both directions."""
    images, texts = task.pair(embeddings)
    for direction in range(len(DIRECTIONS)):
        queries, answers = (images, texts) if direction == 0 else (texts, images)
        yield from _direction(task, embeddings.model.name, direction, (queries, answers))


def _direction(
    task: Retrieval, model: str, direction: int, spaces: tuple[Floats32, Floats32]
) -> Iterator[RetrievalExample]:
    gallery, samples = task.gallery, task.tested.samples
    asked, found = gallery.first_image, gallery.first_text
    if direction == 1:
        asked, found = found, asked
    modalities = [samples.modalities[row] for row in asked]
    chosen = spread_choice(modalities, [f"{direction} {task.tested.keys[row]}" for row in asked])
    positives = gallery.positives(direction)
    right = [positives[query] for query in chosen]
    ranks = best_ranks(spaces[0][chosen], spaces[1], right)
    for query, rank, answers in zip(chosen, ranks, right, strict=True):
        best = np.argsort(-(spaces[1] @ spaces[0][query]), kind="stable")[:ANSWERS]
        yield RetrievalExample(
            task=task.name,
            table=task.tested.table,
            model=model,
            direction=DIRECTIONS[direction],
            modality=modalities[query],
            query=samples.rows[asked[query]],
            rank=float(rank),
            answers=tuple(samples.rows[found[answer]] for answer in best),
            right=tuple(bool(answer in answers) for answer in best),
        )


def spread_choice(modalities: Sequence[str], keys: Sequence[str], count: int = QUERIES) -> Ints:
    """Up to `count` positions, the modalities in turn, within one by the hash of the key."""
    order = sorted(range(len(keys)), key=lambda row: hashlib.sha256(keys[row].encode()).hexdigest())
    seen: dict[str, int] = {}
    turns = []
    for row in order:
        turn = seen.get(modalities[row], 0)
        seen[modalities[row]] = turn + 1
        turns.append((turn, modalities[row], row))
    return np.array([row for _, _, row in sorted(turns)[:count]], dtype=np.int64)
