"""Classification against the formula written out."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import add_int8_towers

from meddistill.errors import ConfigError, ImageError
from meddistill.imaging import ImageRef
from meddistill.runtime import Bundle, Embedder, class_vectors, classify

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.open(bundle_folder)


@pytest.fixture
def refs(paint: Callable[..., Path]) -> list[ImageRef]:
    return [ImageRef(paint(name, colour)) for name, colour in COLOURS.items()]


def test_every_colour_is_recognised_and_scores_are_probabilities(
    bundle: Bundle, refs: list[ImageRef]
) -> None:
    results = classify(bundle, refs, list(COLOURS), batch_size=2)
    assert [result.best for result in results] == list(COLOURS)
    assert [result.path for result in results] == [ref.path for ref in refs]
    for result in results:
        assert list(result.scores) == list(COLOURS)
        assert sum(result.scores.values()) == pytest.approx(1)


def test_scores_follow_the_formula(bundle: Bundle, refs: list[ImageRef]) -> None:
    templates = ["{}", "a medical image, {}", "a {} image"]
    embedder = Embedder(bundle)
    image = embedder.embed_images(refs[:1])[0].astype(np.float64)
    classes = []
    for label in COLOURS:
        mean = embedder.embed_texts([template.format(label) for template in templates]).mean(axis=0)
        classes.append(mean / np.linalg.norm(mean))
    exponentials = np.exp(20.0 * np.array([image @ each for each in classes]))
    expected = exponentials / exponentials.sum()
    scores = classify(bundle, refs[:1], list(COLOURS), templates=templates)[0].scores
    assert np.allclose(list(scores.values()), expected, atol=1e-6)


def test_stored_class_vectors_are_of_the_float_tower(bundle_folder: Path, refs: list[ImageRef]) -> None:
    stored = {"labels": list(COLOURS), "templates": ["{}"], "vectors": [[0, 0, 1], [0, 1, 0], [1, 0, 0]]}
    (bundle_folder / "prompts").mkdir()
    (bundle_folder / "prompts" / "colours.json").write_text(json.dumps(stored))
    add_int8_towers(bundle_folder)
    bundle = Bundle.open(bundle_folder)
    best = {
        precision: [
            result.best
            for result in classify(
                bundle,
                refs,
                list(COLOURS),
                templates=["{}"],
                embedder=Embedder(bundle, precision=precision),
            )
        ]
        for precision in ("float32", "int8")
    }
    assert best == {"float32": ["blue", "green", "red"], "int8": ["green", "red", "blue"]}


def test_labels_are_texts_and_not_formats(bundle: Bundle) -> None:
    vectors = class_vectors(Embedder(bundle), ["red {0.__class__}", "blue {x}"], templates=["a {}"])
    assert vectors.shape == (2, 3)


def test_order_of_labels_moves_nothing(bundle: Bundle, refs: list[ImageRef]) -> None:
    one = classify(bundle, refs, ["red", "green", "blue"])[0].scores
    other = classify(bundle, refs, ["blue", "red", "green"])[0].scores
    assert one == pytest.approx(other)


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        (["red"], ["{}"], "at least two classes; got 1"),
        ([], ["{}"], "at least two classes; got 0"),
        (["red", " "], ["{}"], "must not be empty texts"),
        (["red", "RED "], ["{}"], "must differ"),
        (["red", "blue"], [], "at least one text"),
        (["red", "blue"], ["no place"], "exactly once; got 'no place'"),
        (["red", "blue"], ["{} {}"], "exactly once"),
    ],
)
def test_what_cannot_be_classified(
    bundle: Bundle, refs: list[ImageRef], labels: list[str], templates: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        classify(bundle, refs, labels, templates=templates)


def test_unreadable_images_are_told_and_left_out(
    bundle: Bundle, refs: list[ImageRef], tmp_path: Path
) -> None:
    mixed = [ImageRef(tmp_path / "missing.png"), *refs]
    with pytest.raises(ImageError, match="must exist"):
        classify(bundle, mixed, list(COLOURS))
    told: list[int] = []
    results = classify(bundle, mixed, list(COLOURS), on_mistake=lambda row, _: told.append(row))
    assert told == [0]
    assert [result.best for result in results] == list(COLOURS)
