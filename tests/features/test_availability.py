"""Which teachers may be asked about which rows, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from meddistill.data.config import TableConfig
from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import image_keys, text_keys
from meddistill.data.table import read_table
from meddistill.errors import StoreError, TableError
from meddistill.features.availability import availability, column_mistakes
from meddistill.features.config import AvailabilityConfig
from meddistill.features.extract import extract
from meddistill.features.reader import FeatureStore
from meddistill.features.sources import OnlineTeachers, StoredTeachers
from meddistill.imaging import Geometry
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher


def teachers():
    return {
        "all": toy_teacher("all"),
        "some": toy_teacher("some", seed=1, dim=6, modalities=("ct", "mri")),
        "seeing": toy_teacher("seeing", kind=ToyImages, seed=2, dim=4),
    }


def cards(asked):
    return {name: teacher.card for name, teacher in asked.items()}


def cosines(asked, samples, tmp_path: Path):
    """Of every sample, from float32 features that numpy reads and multiplies."""
    store = extract(
        tmp_path / "exact", samples, asked, SMALL.model_copy(update={"precision": "float32", "views": 2})
    )
    found = {}
    images = store.image_rows(image_keys(samples))
    texts = store.text_rows(text_keys(samples))
    for name in asked:
        if "text" not in store.outputs(name):
            continue
        image = store.read(name, "image", images)[:, 0].astype(np.float64)
        text = store.read(name, "text", texts).astype(np.float64)
        found[name] = [a @ b / (a @ a) ** 0.5 / (b @ b) ** 0.5 for a, b in zip(image, text, strict=True)]
    return store, {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5])
def test_agreement_is_held_against_each_teachers_own_quantile(tmp_path: Path, quantile: float) -> None:
    samples, asked = toy_samples(tmp_path / "images", 11, captions=31), teachers()
    store, found = cosines(asked, samples, tmp_path)
    given = availability(samples, cards(asked), AvailabilityConfig(agreement_quantile=quantile), store=store)
    pair_of = np.array([f"{i}|{t}" for i, t in zip(image_keys(samples), text_keys(samples), strict=True)])
    first = np.unique(pair_of, return_index=True)[1]
    covered = {
        "all": np.ones(len(samples), bool),
        "some": np.array([m in ("ct", "mri") for m in samples.modalities]),
    }
    for name, own in covered.items():
        counted = np.intersect1d(first, np.flatnonzero(own))
        threshold = np.quantile(found[name].astype(np.float32).astype(np.float64)[counted], quantile)
        assert given.thresholds[name] == pytest.approx(threshold, abs=1e-6)
        clear = np.abs(found[name] - threshold) > 1e-5  # sums in another order may round otherwise
        assert clear.sum() >= len(samples) - 6
        assert (given.masks[name] == (own & (found[name] >= threshold)))[clear].all()
        share = given.masks[name][counted].mean()
        assert 1 - quantile <= share <= 1 - quantile + 1.5 / len(counted)
    # One embedding agrees with nothing, and a number for all passes over it.
    assert given.masks["seeing"].all()
    assert "seeing" not in given.thresholds


def test_a_quantile_is_of_the_pairs_asked_about_alone(tmp_path: Path) -> None:
    """Others in the store, as those of a validation table, move nobody's threshold."""
    samples, asked = toy_samples(tmp_path / "images", 11, captions=31), teachers()
    store, _ = cosines(asked, samples, tmp_path)
    rules, known = AvailabilityConfig(agreement_quantile=0.3), cards(asked)
    part = samples.take(range(8))
    alone, _ = cosines(asked, part, tmp_path / "alone")
    expected = availability(part, known, rules, store=alone).thresholds
    assert availability(part, known, rules, store=store).thresholds == pytest.approx(expected, abs=1e-6)
    rest = samples.take(range(8, len(samples)))
    assert availability(rest, known, rules, store=store, thresholds=expected).thresholds == expected


def test_a_quantile_for_one_teacher_leaves_the_others_alone(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 9), teachers()
    store = extract(tmp_path / "store", samples, asked, SMALL)
    config = AvailabilityConfig(agreement_quantile={"all": 0.5})
    found = availability(samples, cards(asked), config, store=store)
    assert list(found.thresholds) == ["all"]
    assert found.masks["all"].sum() == 5
    assert found.masks["some"].sum() == 6


def test_rows_with_too_few_teachers_are_not_kept(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 4), cards(teachers())
    column = ("all|some", " some ; seeing ", "", "all;some|seeing")
    samples = replace(samples, columns={"clips": column}, modalities=("xray", "ct", "ct", ""), table_hash="")
    config = AvailabilityConfig(column="clips", min_teachers=2)
    found = availability(samples, asked, config, store=None)
    assert found.masks["all"].tolist() == [True, False, False, True]
    assert found.masks["some"].tolist() == [False, True, False, True]  # xray is none of its modalities
    assert found.masks["seeing"].tolist() == [False, True, False, True]
    assert found.kept.tolist() == [1, 3]
    assert {name: mask.tolist() for name, mask in found.of_kept().items()} == {
        "all": [False, True],
        "some": [True, True],
        "seeing": [True, True],
    }
    everything = availability(samples, asked, config.model_copy(update={"min_teachers": 0}), store=None)
    assert everything.kept.tolist() == [0, 1, 2, 3]


def test_names_in_the_column_are_held_against_the_recipe(tmp_path: Path) -> None:
    samples = toy_samples(tmp_path / "images", 4)
    samples = replace(samples, columns={"clips": ("all", "all|sone", "sone", "plip")}, table_hash="")
    known = ("all", "some")
    told = column_mistakes(samples, known, AvailabilityConfig(column="clips"))
    assert len(told) == 3
    assert "got 'plip' in row 4" in told[0]
    assert "got 'sone' in rows 2, 3. Did you mean `some`?" in told[1]
    assert "must name the teacher some in one row at least" in told[2]
    told = column_mistakes(samples, known, AvailabilityConfig(column="clips", unknown_names="ignore"))
    assert [line.partition(";")[0] for line in told] == [
        "`clips` must name the teacher some in one row at least"
    ]
    assert column_mistakes(samples, known, AvailabilityConfig()) == []


def test_a_column_of_lists_is_read_from_parquet(tmp_path: Path) -> None:
    toy_samples(tmp_path, 3)
    columns = {"image": ["0.png", "1.png", "2.png"], "clips": [["a", "b"], [], None]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    config = TableConfig(table="t.parquet", text=None)
    samples = read_table(config, base=tmp_path, columns=("clips",), lists=("clips",))
    assert samples.columns["clips"] == ("a|b", "", "")
    with pytest.raises(TableError, match="must hold one plain value a row; got list"):
        read_table(config, base=tmp_path, columns=("clips",))


def test_both_sources_use_the_masks(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 6), teachers()
    store = extract(tmp_path / "store", samples, asked, SMALL)
    masks = {name: np.arange(6) % (place + 2) == 0 for place, name in enumerate(asked)}
    geometries = frozenset(teacher.card.input.geometry for teacher in asked.values())
    data = SampleDataset(samples, student=Geometry(8, 8, "squash", "bilinear"), teacher_geometries=geometries)
    batch = data.batch([5, 0, 2, 3], [0] * 4)
    stored = StoredTeachers(store, samples, tuple(asked), available=masks).outputs(batch)
    online = OnlineTeachers(asked, available=masks).outputs(batch)
    for name, mask in masks.items():
        expected = mask[[5, 0, 2, 3]].tolist()
        assert stored[name].available.tolist() == online[name].available.tolist() == expected
        assert (stored[name].image[~stored[name].available] == 0).all()
        torch.testing.assert_close(stored[name].image, online[name].image, rtol=1e-3, atol=2e-3)


def test_agreement_grows_with_the_pairs(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 6), {"all": toy_teacher("all")}
    extract(tmp_path / "store", samples, asked, SMALL)
    texts = samples.texts
    turned = replace(samples, texts=(*texts[1:], texts[0]), table_hash="")
    config = AvailabilityConfig(agreement_quantile=0.5)
    with pytest.raises(StoreError, match=r"lacks 6 of 6\. Add them with `meddistill features add`"):
        availability(turned, cards(asked), config, store=FeatureStore.open(tmp_path / "store"))
    store = extract(tmp_path / "store", turned, asked, SMALL)
    assert len(store.agreement("all")) == store.manifest.rows("pairs") == 12
    assert availability(turned, cards(asked), config, store=store).kept.tolist() == list(range(6))


def test_the_recipes_modalities_decide_over_those_in_the_store(tmp_path: Path) -> None:
    """A store that was given is not rewritten when a recipe tells other modalities."""
    samples, asked = toy_samples(tmp_path / "images", 30, captions=31), teachers()
    store, found = cosines(asked, samples, tmp_path)
    told = cards(asked) | {"all": card_with(asked["all"].card, ("xray",))}
    given = availability(samples, told, AvailabilityConfig(agreement_quantile=0.5), store=store)
    own = np.array([modality == "xray" for modality in samples.modalities])
    assert given.thresholds["all"] == pytest.approx(np.quantile(found["all"][own], 0.5), abs=1e-6)
    assert abs(given.masks["all"].sum() - own.sum() / 2) <= 1


def card_with(card, modalities: tuple[str, ...]):
    return card.model_copy(update={"modalities": modalities})


def test_agreement_of_damaged_numbers_is_refused(tmp_path: Path) -> None:
    samples, asked = toy_samples(tmp_path / "images", 6), {"all": toy_teacher("all")}
    store = extract(tmp_path / "store", samples, asked, SMALL)
    path = tmp_path / "store" / "teachers" / "all" / "availability.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="its hash differs"):
        store.agreement("all")
