"""What stops an extraction is told with the rows that cause it, and with their table."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from meddistill.data.samples import joined
from meddistill.errors import NonFiniteError, StoreError, TeacherError
from meddistill.features.extract import extract
from toy_features import SMALL, ToyClip, toy_samples, toy_teacher, tree


class Spoilt(ToyClip):
    """Gives NaN for one picture and for texts that say so."""

    def embed_images(self, pixels):
        found = super().embed_images(pixels)
        white = pixels.amin(dim=(1, 2, 3)) > 0.99
        return torch.where(white[:, None], torch.tensor(torch.nan), found)

    def embed_texts(self, texts):
        found = super().embed_texts(texts)
        return found / torch.tensor([[float("broken" not in text)] for text in texts])


def test_numbers_that_are_not_finite_are_refused_by_table_row(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 21)
    Image.new("RGB", (20, 20), "white").save(tmp_path / "images" / "13.png")
    with pytest.raises((NonFiniteError, TeacherError), match=r"'a'.* finite.*In the table: row 14\."):
        extract(tmp_path / "store", samples, {"a": toy_teacher("a", kind=Spoilt)}, SMALL)
    Image.new("RGB", (20, 20), "grey").save(tmp_path / "images" / "13.png")
    texts = tuple("broken" if row in (3, 17) else f"caption {row}" for row in range(21))
    samples = replace(samples, texts=texts, table_hash="")
    with pytest.raises((NonFiniteError, TeacherError), match=r"'a'.* finite.*In the table: row 4\."):
        extract(tmp_path / "other", samples, {"a": toy_teacher("a", kind=Spoilt)}, SMALL)
    banks, samples = {"bank": ["broken", "whole"]}, toy_samples(tmp_path / "images", 21)
    with pytest.raises((NonFiniteError, TeacherError), match=r"The inputs were texts of a bank\."):
        extract(tmp_path / "third", samples, {"a": toy_teacher("a", kind=Spoilt)}, SMALL, banks=banks)
    assert not [name for name in tree(tmp_path / "other") if name.endswith(".part")]


def test_rows_of_two_tables_are_told_with_their_table(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 4)
    texts = ("broken", "whole", "broken too", "whole too")
    first, second = (replace(samples, texts=texts, table_hash="").take(part) for part in ([0, 1], [2, 3]))
    both = joined(
        replace(first, rows=(4, 9)), replace(second, rows=(7, 8)), tables=("training table", "other")
    )
    with pytest.raises(
        (NonFiniteError, TeacherError), match=r"In the training table: row 4\. In the other: row 7\."
    ):
        extract(tmp_path / "store", both, {"a": toy_teacher("a", kind=Spoilt)}, SMALL)
    loud = toy_teacher("a")
    loud.modules[0].weight.data.mul_(1e6)
    with pytest.raises(StoreError, match=r"for training table rows 4, 9 and other rows 7, 8\. Set"):
        extract(tmp_path / "loud", both, {"a": loud}, SMALL)
