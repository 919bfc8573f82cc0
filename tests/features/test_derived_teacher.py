"""A teacher derived from others stands in the store like any other, by image and text or by pair."""

from pathlib import Path

import numpy as np
import pytest
import torch

from meddistill.data.dataset import SampleDataset
from meddistill.data.keys import image_keys, text_key, text_keys
from meddistill.data.samples import Samples
from meddistill.errors import NonFiniteError, StoreError
from meddistill.evaluation.audit.audit import audit_store
from meddistill.features.config import ExtractOptions
from meddistill.features.derived import Derivation, remove_derived, write_derived
from meddistill.features.extract import extract
from meddistill.features.format import TEACHERS
from meddistill.features.projections.pairs import statistics_of_pairs, unit_rows
from meddistill.features.reader import FeatureStore
from meddistill.features.sources import StoredTeachers
from meddistill.features.verify import repair, verify
from meddistill.licences import KNOWN
from meddistill.records import TeacherOutputs
from meddistill.teachers.card import DERIVED, TeacherCard
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher, tree

CPU = torch.device("cpu")
IMAGES = 20
NAMES = ("one", "two", "blind")


def samples_of(folder: Path) -> Samples:
    return toy_samples(folder / "images", IMAGES, captions=30)


def options(**changes) -> ExtractOptions:
    return SMALL.model_copy(update={"precision": "float32", **changes})


def store_of(folder: Path, **changes) -> FeatureStore:
    teachers = {
        "one": toy_teacher("one", seed=1),
        "two": toy_teacher("two", seed=2, modalities=("xray", "ct")),
        "blind": toy_teacher("blind", kind=ToyImages, dim=4, seed=3),
    }
    return extract(folder / "store", samples_of(folder), teachers, options(**changes))


def added(tower: str, outputs: dict[str, TeacherOutputs]) -> torch.Tensor:
    """The sum of what is there, so that every row can be told by hand."""
    found = 0.0
    for name in ("one", "two"):
        rows, available = outputs[name].towers[tower]
        found = found + torch.where(available[:, None], rows, 0.0)
    return found


def both(tower: str, outputs: dict[str, TeacherOutputs]) -> torch.Tensor:
    """A row knows image and text of its pair."""
    image, text = (outputs["one"].towers[each][0] for each in ("image", "text"))
    return image + 2 * text if tower == "image" else image - text


def card(seed: int = 0) -> TeacherCard:
    return TeacherCard(
        id="fused",
        kind=DERIVED,
        source="one + two",
        library="meddistill",
        weights_sha256=f"{seed:064x}",
        licence=KNOWN["MIT"],
        dims={"image": 8, "text": 8},
        logit_scale=10.0,
        signals=frozenset({"image", "text"}),
        parameters=1,
    )


def derivation(store: FeatureStore, samples: Samples, *, by_pair: bool = False, seed: int = 0, **changes):
    pairs = np.stack([store.image_rows(image_keys(samples)), store.text_rows(text_keys(samples))], axis=1)
    every = np.ones(len(samples), dtype=np.bool_)
    available = {
        "one": every,
        "two": np.array([each != "mri" for each in samples.modalities]),
        "blind": every,
    }
    given = {"card": card(seed), "pairs": pairs, "available": available, "precision": "float32"}
    return Derivation(**{**given, "by_pair": by_pair, **changes})


def derived(folder: Path, *, by_pair: bool = False, **changes) -> tuple[FeatureStore, Samples]:
    store, samples = store_of(folder, **changes), samples_of(folder)
    write_derived(
        store, "fused", derivation(store, samples, by_pair=by_pair), both if by_pair else added, device=CPU
    )
    return FeatureStore.open(store.path), samples


def test_rows_are_made_from_the_teachers_that_may_be_asked(tmp_path: Path) -> None:
    store, samples = derived(tmp_path)
    rows = store.image_rows(image_keys(samples))
    one, two, fused = (store.read(name, "image", rows) for name in ("one", "two", "fused"))
    known = np.array([each != "mri" for each in samples.modalities])
    np.testing.assert_allclose(fused, one + known[:, None] * two, rtol=1e-6)
    assert store.holds_all_of(["fused"])
    assert store.card("fused").is_derived
    assert store.statistics("fused").keys() == {"image", "text"}
    assert len(store.agreement("fused")) == store.manifest.rows("pairs")
    assert not verify(store.path).damages


def test_every_view_is_fused(tmp_path: Path) -> None:
    store, samples = derived(tmp_path, views=3)
    rows = store.image_rows(image_keys(samples))[samples.modalities.index("xray")][None]
    one, two, fused = (store.read(name, "image", rows) for name in ("one", "two", "fused"))
    assert fused.shape == (1, 3, 8)
    np.testing.assert_allclose(fused, one + two, rtol=1e-6)


def test_a_row_of_no_sample_is_zeros(tmp_path: Path) -> None:
    store, samples = store_of(tmp_path), samples_of(tmp_path)
    few = samples.take(range(5))
    write_derived(store, "fused", derivation(store, few), added, device=CPU)
    found = FeatureStore.open(store.path).read("fused", "image", np.arange(store.manifest.rows("images")))
    assert found.any(axis=1).sum() == 5


def test_texts_of_banks_are_fused_from_all_teachers(tmp_path: Path) -> None:
    samples, bank = samples_of(tmp_path), ("a chest", "a knee")
    teachers = {name: toy_teacher(name, seed=seed) for seed, name in enumerate(NAMES, 1)}
    store = extract(tmp_path / "store", samples, teachers, options(), banks={"bank": bank})
    write_derived(store, "fused", derivation(store, samples), added, device=CPU)
    store = FeatureStore.open(store.path)
    rows = store.text_rows([text_key(text) for text in bank])
    one, two, fused = (store.read(name, "text", rows) for name in ("one", "two", "fused"))
    np.testing.assert_allclose(fused, one + two, rtol=1e-6)


@pytest.mark.parametrize("by_pair", [False, True])
def test_the_source_of_batches_reads_it_like_any_other(tmp_path: Path, by_pair: bool) -> None:
    store, samples = derived(tmp_path, by_pair=by_pair)
    blank = Samples(
        refs=samples.refs,
        texts=("", *(samples.texts or ())[1:]),
        modalities=samples.modalities,
    )
    source = StoredTeachers(store, blank, ("one", "fused"))
    batch = SampleDataset(blank, student=None).batch([3, 0, 25], [0, 0, 0])
    assert batch.rasters.shape == (3, 0, 0, 3)
    found = source.outputs(batch)
    one, fused = found["one"], found["fused"]
    assert fused.text_available.tolist() == [True, False, True]
    assert fused.image_available.tolist() == [True, not by_pair, True]
    if by_pair:
        torch.testing.assert_close(fused.image[[0, 2]], (one.image + 2 * one.text)[[0, 2]])
        torch.testing.assert_close(fused.text[[0, 2]], (one.image - one.text)[[0, 2]])
        assert not fused.image[1].any()


def test_maps_and_statistics_are_fitted_from_pairs(tmp_path: Path) -> None:
    store, samples = derived(tmp_path, by_pair=True)
    pairs = derivation(store, samples).pairs
    found = unit_rows(store, "fused", "text", pairs, device=CPU).numpy()
    one = [store.read("one", tower, pairs[:, column]) for column, tower in enumerate(("image", "text"))]
    expected = one[0] - one[1]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    statistics = statistics_of_pairs(store, "fused", pairs)
    distinct = np.unique(pairs, axis=0)
    rows = store.read("one", "image", distinct[:, 0]) - store.read("one", "text", distinct[:, 1])
    np.testing.assert_allclose(statistics["text"].mean, rows.mean(axis=0), rtol=1e-5)
    with pytest.raises(StoreError, match="one dim"):
        store.agreement("fused")


def test_what_was_derived_otherwise_is_replaced_and_what_was_not_stays(tmp_path: Path) -> None:
    store, samples = derived(tmp_path)
    before = tree(store.path)
    write_derived(store, "fused", derivation(store, samples), added, device=CPU)
    assert tree(store.path) == before
    write_derived(store, "fused", derivation(store, samples, seed=1, by_pair=True), both, device=CPU)
    found = FeatureStore.open(store.path)
    assert (found.card("fused").weights_sha256, found.by_pair("fused")) == (f"{1:064x}", True)
    remove_derived(found, "fused")
    assert FeatureStore.open(store.path).teachers == NAMES
    assert not (store.path / TEACHERS / "fused").exists()
    for change in (
        lambda: write_derived(store, "one", derivation(store, samples), added, device=CPU),
        lambda: remove_derived(store, "one"),
    ):
        with pytest.raises(StoreError, match="another name"):
            change()


@pytest.mark.parametrize("by_pair", [False, True])
def test_an_interrupted_or_repaired_derivation_is_completed(tmp_path: Path, by_pair: bool) -> None:
    store, samples = derived(tmp_path / "whole", by_pair=by_pair)
    whole = tree(store.path)
    broken, fuse = store_of(tmp_path / "broken"), both if by_pair else added
    asked = 0

    def failing(tower, outputs):
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt
        return fuse(tower, outputs)

    for each in (failing, fuse):
        given = derivation(broken, samples_of(tmp_path / "broken"), by_pair=by_pair)
        if each is failing:
            with pytest.raises(KeyboardInterrupt):
                write_derived(broken, "fused", given, each, device=CPU)
        else:
            write_derived(broken, "fused", given, each, device=CPU)
    assert {name: each for name, each in tree(broken.path).items() if "fused" in name} == {
        name: each for name, each in whole.items() if "fused" in name
    }
    shard = sorted((store.path / TEACHERS / "fused").glob("text-*"))[0]
    shard.write_bytes(b"spoilt")
    repair(store.path)
    write_derived(
        FeatureStore.open(store.path), "fused", derivation(store, samples, by_pair=by_pair), fuse, device=CPU
    )
    assert tree(store.path) == whole


def test_numbers_that_are_not_finite_are_refused_with_their_rows(tmp_path: Path) -> None:
    store, samples = store_of(tmp_path), samples_of(tmp_path)

    def spoilt(tower, outputs):
        return added(tower, outputs).masked_fill_(torch.eye(4, 8).bool()[:1].any(dim=0), torch.nan)

    words = (
        "fused image embeddings of fused .* for rows 1, 2, 3, 4, 5 and 3 more of the store, counted from 1"
    )
    with pytest.raises(NonFiniteError, match=words):
        write_derived(store, "fused", derivation(store, samples), spoilt, device=CPU)


def test_the_audit_tells_its_mass_and_compares_what_has_rows_of_its_own(tmp_path: Path) -> None:
    within, _ = derived(tmp_path / "within")
    audit = audit_store(within)
    assert [each.teacher for each in audit.off_diagonal] == ["fused"]
    assert any(note.startswith("fused is derived: ") for note in audit.notes)
    assert "fused" in {each.name for each in audit.teachers}
    # It cannot stay without its sources: it is no candidate to drop, and counts for none of the others.
    assert any("no candidate to drop" in note for note in audit.notes)
    without = audit_store(within, NAMES)
    assert {each.teacher for each in without.order} == set(NAMES)
    for part in ("order", "first_round", "redundancy", "ensemble", "quality"):
        assert getattr(audit, part) == getattr(without, part), part
    across, _ = derived(tmp_path / "across", by_pair=True)
    audit = audit_store(across)
    (found,) = audit.off_diagonal
    assert (found.teacher, found.by_pair) == ("fused", True)
    assert 0 <= found.mass <= 1
    assert "fused" not in {each.name for each in audit.teachers}
    assert any("knows what belongs together" in note for note in audit.notes)
