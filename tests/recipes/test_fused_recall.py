"""What fused embeddings are held against: teachers of one dim, with pairs enough to miss one."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from meddistill.data.samples import Samples
from meddistill.imaging import ImageRef
from meddistill.methods.base import TeacherSpace
from meddistill.recipes.fused_recall import FusedRecall
from planted_store import Planted, planted_store
from toy_fusion import fusion_config, fusion_trainee

ROWS = 5


def test_teachers_that_cannot_be_compared_are_told_as_such(tmp_path: Path) -> None:
    """They have two towers, but of two dims, or one pair alone."""
    draws = np.random.default_rng(0)
    values = {dim: draws.normal(size=(ROWS, dim)).astype(np.float32) for dim in (4, 6)}
    planted = {"uneven": Planted(values[4], values[6]), "rare": Planted(values[4], values[4])}
    store = planted_store(tmp_path, planted, [(row, row) for row in range(ROWS)], [""] * ROWS)
    cards = {name: store.card(name) for name in planted}
    samples = Samples(
        refs=tuple(ImageRef(Path(f"{row}.png")) for row in range(ROWS)),
        texts=tuple(f"text {row}" for row in range(ROWS)),
    )
    every = np.ones(ROWS, dtype=np.bool_)
    recall = FusedRecall(
        store,
        samples,
        tuple(hashlib.sha256(f"image {row}".encode()).hexdigest() for row in range(ROWS)),
        cards=cards,
        available={"uneven": every, "rare": np.arange(ROWS) == 2},
        device=torch.device("cpu"),
    )
    spaces = {name: TeacherSpace.of(card) for name, card in cards.items()}
    score = recall.evaluate(fusion_trainee(fusion_config(), teachers=spaces))
    assert score.teachers == {}
    assert score.kept
    assert score.sentence().endswith(f"of {ROWS} validation pairs; no teacher could be compared")
