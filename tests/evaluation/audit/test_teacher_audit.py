"""The audit of a store: against by-hand formulas, other libraries, the retrieval task, planted teachers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from meddistill.errors import StoreError, UserError
from meddistill.evaluation.audit.audit import audit_store
from meddistill.evaluation.audit.likeness import explained
from meddistill.evaluation.audit.record import Audit
from meddistill.evaluation.audit.sample import choose
from meddistill.evaluation.tasks.retrieval.task import best_ranks
from meddistill.features.files import MANIFEST
from meddistill.features.reader import FeatureStore
from planted_store import Planted, clip_like, planted_store

N = 240
MODALITIES = tuple(("ct", "xray", "mri")[row % 3] for row in range(N))
ONE_TO_ONE = [(row, row) for row in range(N)]


def meaning(seed: int = 0, n: int = N, dim: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim))


def parts_of_meaning(columns: slice, *, seed: int, noise: float = 0.8) -> Planted:
    """A teacher that sees only some of what there is to see."""
    return clip_like(meaning()[:, columns], dim=16, noise=noise, seed=seed)


@pytest.fixture(scope="module")
def four() -> dict[str, Planted]:
    """Two teachers that see different halves, a turned and rescaled copy of the first, and noise."""
    left, right = parts_of_meaning(slice(0, 6), seed=1), parts_of_meaning(slice(6, 12), seed=2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(16, 16)))[0].astype(np.float32) * 5
    copy = Planted(left.images @ turn, left.texts @ turn)
    draws = np.random.default_rng(4)
    noise = Planted(*(draws.normal(size=(N, 8)).astype(np.float32) for _ in range(2)))
    return {"left": left, "right": right, "copy": copy, "noise": noise}


def audited(path: Path, teachers: dict[str, Planted], **options: int) -> Audit:
    return audit_store(planted_store(path, teachers, ONE_TO_ONE, MODALITIES), **options)


@pytest.fixture(scope="module")
def audit(four: dict[str, Planted], tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return audited(tmp_path_factory.mktemp("store"), four)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unbiased_hsic(first: np.ndarray, second: np.ndarray) -> float:
    """Song et al. 2012, equation 5, with vectors of ones: another form than the U-centred product."""
    n = len(first)
    k, l = first @ first.T, second @ second.T  # noqa: E741
    np.fill_diagonal(k, 0)
    np.fill_diagonal(l, 0)
    ones = np.ones(n)
    found = np.trace(k @ l) + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float((found - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3)))


@pytest.mark.parametrize("tower", ["image", "text"])
@pytest.mark.parametrize("modality", ["", "ct"])
def test_likeness_against_other_formulas(
    audit: Audit, four: dict[str, Planted], tower: str, modality: str
) -> None:
    rows = [row for row in range(N) if modality in ("", MODALITIES[row])]
    spaces = [
        unit((each.images if tower == "image" else each.texts)[rows].astype(np.float64))
        for each in (four["left"], four["right"])
    ]
    found = audit.alike("left", "right", tower, modality)
    joint = unbiased_hsic(*spaces)
    own = [unbiased_hsic(space, space) for space in spaces]
    assert found.n == len(rows)
    assert found.cka == pytest.approx(joint / np.sqrt(own[0] * own[1]), abs=1e-5)
    near = [
        NearestNeighbors(n_neighbors=10, metric="cosine").fit(space).kneighbors(return_distance=False)
        for space in spaces
    ]
    shared = np.mean([len(set(mine) & set(theirs)) / 10 for mine, theirs in zip(*near, strict=True)])
    assert found.neighbours == pytest.approx(shared, abs=1e-9)


def test_a_turned_copy_is_all_redundant(audit: Audit) -> None:
    assert audit.alike("left", "copy", "image").cka == pytest.approx(1, abs=1e-5)
    assert audit.alike("left", "copy", "text").neighbours == pytest.approx(1, abs=1e-2)
    found = {(row.teacher, row.tower): row for row in audit.redundancy}
    for name, other in (("left", "copy"), ("copy", "left")):
        assert found[name, "image"].nearest == other
        assert found[name, "image"].explained == pytest.approx(1, abs=1e-5)
    assert found["right", "image"].explained < 0.5
    assert abs(audit.alike("noise", "left", "image").cka) < 0.1


def test_mixtures_explain_a_sum_and_never_less_than_the_nearest_teacher() -> None:
    draws = np.random.default_rng(0)
    first, second = (vector / np.linalg.norm(vector) for vector in draws.normal(size=(2, 50)))
    whole = 2 * first + 3 * second
    vectors = np.stack([whole / np.linalg.norm(whole), first, second, first])
    assert explained(vectors @ vectors.T, 0, [1, 2]) == pytest.approx(1)
    assert explained(vectors @ vectors.T, 0, [1, 2, 3]) == pytest.approx(1)
    against = np.stack([first, -first])
    assert explained(against @ against.T, 0, [1]) == pytest.approx(0, abs=1e-6)
    single = vectors @ vectors.T
    assert explained(single, 0, [1]) == pytest.approx(single[0, 1])


def test_retrieval_is_that_of_the_task(audit: Audit, four: dict[str, Planted]) -> None:
    rows = [row for row in range(N) if MODALITIES[row] == "xray"]
    images, texts = unit(four["left"].images[rows]), unit(four["left"].texts[rows])
    positives = [np.array([row]) for row in range(len(rows))]
    ranks = [best_ranks(images, texts, positives), best_ranks(texts, images, positives)]
    hits = [[float((each <= k).mean()) for k in (1, 5, 10)] for each in ranks]
    found = audit.score("left", "retrieval", "xray")
    assert found.value == pytest.approx(np.mean(hits))
    assert found.details["text_to_image_hit_at_5"] == pytest.approx(hits[1][1])
    assert found.low < found.value < found.high
    assert (found.images, found.answers) == (len(rows), len(rows))
    assert found.chance == pytest.approx((1 + 5 + 10) / 3 / len(rows))
    assert audit.score("noise", "retrieval", "xray").value == pytest.approx(found.chance, abs=0.08)


def test_the_ensemble_is_better_than_its_members_without_the_noise(
    four: dict[str, Planted], tmp_path: Path
) -> None:
    audit = audited(tmp_path, {name: four[name] for name in ("left", "right")})
    together = next(row for row in audit.ensemble if row.modality == "ct")
    for name in ("left", "right"):
        assert together.value > audit.score(name, "retrieval", "ct").value + 0.1
    assert all(row.loss > 0.05 for row in audit.first_round)


def test_a_copy_goes_first(four: dict[str, Planted], tmp_path: Path) -> None:
    """Left and copy count twice against right; without either the ensemble is better."""
    audit = audited(tmp_path, {name: four[name] for name in ("left", "right", "copy")})
    first, *rest = audit.order
    assert first.teacher in ("left", "copy")
    assert first.nearest in ("left", "copy")
    assert first.redundancy == pytest.approx(1, abs=0.01)
    assert first.loss < 0.01
    assert {row.teacher for row in rest} == {"right", "left", "copy"} - {first.teacher}
    # With its copy gone, the other is indispensable.
    assert rest[0].loss > 0.05


def test_noise_goes_first_where_nothing_is_copied(four: dict[str, Planted], tmp_path: Path) -> None:
    third = clip_like(meaning(), dim=16, noise=0.8, seed=9)
    audit = audited(tmp_path, {**{name: four[name] for name in ("left", "noise", "right")}, "third": third})
    assert audit.order[0].teacher == "noise"
    assert audit.order[0].loss < 0
    assert audit.order[0].high < 0
    assert [row.of for row in audit.order] == [4, 3, 2, 1]
    losses = {row.teacher: row.loss for row in audit.first_round}
    assert min(losses, key=losses.get) == "noise"


def test_classes_are_captions_that_many_images_share(tmp_path: Path) -> None:
    """Four captions of thirty ct images each; xray images have captions of their own."""
    modalities = ["ct"] * 120 + ["xray"] * 30
    pairs = [(row, row % 4) for row in range(120)] + [(row, row - 116) for row in range(120, 150)]
    pairs += [(0, 40)]
    draws = np.random.default_rng(0)
    texts = draws.normal(size=(41, 8)).astype(np.float32)
    text_of = np.array([text for _, text in pairs[:150]])
    images = texts[text_of] + 0.01 * draws.normal(size=(150, 8)).astype(np.float32)
    images[:30] *= -1  # wrong: thirty of the ct images, 7 or 8 a class
    store = planted_store(tmp_path, {"one": Planted(images, texts)}, pairs, modalities)
    audit = audit_store(store)
    found = audit.score("one", "zero_shot", "ct")
    assert (found.answers, found.images, found.chance) == (4, 120, 0.25)
    right = [np.mean([row >= 30 for row in range(kind, 120, 4)]) for kind in range(4)]
    assert found.value == pytest.approx(np.mean(right))
    assert audit.score("one", "zero_shot", "xray") is None
    # Five captions are too few to be looked for among.
    assert audit.score("one", "retrieval", "ct") is None
    good = audit.score("one", "modality")
    assert (good.answers, good.images) == (2, 150)


def test_own_captions_do_not_help_to_tell_the_modality(tmp_path: Path) -> None:
    """Every image is its own caption and says nothing of its modality: chance, or below, but not above."""
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(N, 400)).astype(np.float32)
    store = planted_store(tmp_path, {"one": Planted(vectors, vectors)}, ONE_TO_ONE, MODALITIES)
    found = audit_store(store).score("one", "modality")
    assert found.value < 1 / 3 + 0.1


def test_only_rows_of_a_teachers_modalities_count(four: dict[str, Planted], tmp_path: Path) -> None:
    narrow = dataclasses.replace(four["right"], modalities=("ct",))
    wrecked = narrow.images.copy()
    wrecked[[row for row in range(N) if MODALITIES[row] != "ct"]] = 7.0
    narrow = dataclasses.replace(narrow, images=wrecked)
    audit = audited(tmp_path, {"left": four["left"], "narrow": narrow})
    facts = {row.name: row for row in audit.teachers}
    assert (facts["narrow"].images, facts["left"].images) == (80, 240)
    assert audit.alike("left", "narrow", "image").n == 80
    assert audit.score("narrow", "retrieval", "xray") is None
    assert audit.score("narrow", "retrieval").images == 80
    alone = audit.score("narrow", "retrieval", "ct")
    assert alone.value == pytest.approx(audit.score("narrow", "retrieval").value)
    # On xray and mri the ensemble is the other teacher alone.
    ensemble = next(row for row in audit.ensemble if row.modality == "xray")
    assert ensemble.value == pytest.approx(audit.score("left", "retrieval", "xray").value)


def test_a_teacher_that_only_sees_is_compared_by_its_space(four: dict[str, Planted], tmp_path: Path) -> None:
    audit = audited(
        tmp_path, {"left": four["left"], "eye": Planted(four["right"].images), "right": four["right"]}
    )
    assert audit.alike("left", "eye", "image") is not None
    assert audit.alike("left", "eye", "text") is None
    assert {row.teacher for row in audit.order} == {"left", "right"}
    assert any("eye" in note for note in audit.notes)
    only = audited(
        tmp_path / "only", {"eye": Planted(four["right"].images), "two": Planted(four["left"].images)}
    )
    assert [row.loss for row in only.order] == [None, None]
    assert only.quality is None


def test_large_stores_are_sampled_evenly_over_modalities_and_repeatably(tmp_path: Path) -> None:
    modalities = ["ct"] * 200 + ["xray"] * 30 + ["mri"] * 10
    pairs = [(row, 2 * row + each) for row in range(N) for each in (0, 1)]
    draws = np.random.default_rng(0)
    teacher = Planted(*(draws.normal(size=(rows, 4)).astype(np.float32) for rows in (N, 2 * N)))
    store = planted_store(tmp_path, {"one": teacher}, pairs, modalities)
    sample = choose(store, 90, 0)
    counts = {name: len(rows) for name, rows in sample.image_groups.items()}
    assert counts == {"": 90, "ct": 50, "xray": 30, "mri": 10}
    assert len(sample.text_rows) == len(sample.pairs) == 90
    known = {tuple(pair) for pair in pairs}
    assert {(int(sample.image_rows[i]), int(sample.text_rows[t])) for i, t in sample.pairs} <= known
    again, other = choose(store, 90, 0), choose(store, 90, 1)
    assert (again.image_rows == sample.image_rows).all()
    assert (other.image_rows != sample.image_rows).any()
    few = choose(store, 45, 0)
    assert [len(few.image_groups[name]) for name in ("mri", "xray", "ct")] == [10, 17, 18]
    assert len(choose(store, 1000, 0).pairs) == 480
    audit = audit_store(store, rows=90)
    assert (audit.rows["images"], audit.held["images"]) == (90, N)


def test_equal_calls_give_equal_files_and_damage_is_told(four: dict[str, Planted], tmp_path: Path) -> None:
    store = planted_store(tmp_path / "store", four, ONE_TO_ONE, MODALITIES)
    paths = [audit_store(store).save(tmp_path / name) for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert Audit.load(tmp_path / "a") == audit_store(store)
    paths[0].write_text(json.dumps({"version": 1}))
    with pytest.raises(UserError, match="Make it again"):
        Audit.load(tmp_path / "a")


def test_unfinished_teachers_are_left_out(four: dict[str, Planted], tmp_path: Path) -> None:
    planted_store(tmp_path, {name: four[name] for name in ("left", "right")}, ONE_TO_ONE, MODALITIES)
    _cut_short(tmp_path, "right")
    audit = audit_store(FeatureStore.open(tmp_path))
    assert [row.name for row in audit.teachers] == ["left"]
    assert any("right is left out: 48 rows" in note for note in audit.notes)
    _cut_short(tmp_path, "left")
    with pytest.raises(StoreError, match="a teacher with all of its rows"):
        audit_store(FeatureStore.open(tmp_path))


def _cut_short(path: Path, teacher: str) -> None:
    """Take the last image shard out of the manifest, as an interrupted extraction leaves it."""
    from meddistill.features.files import write_manifest
    from meddistill.features.format import TeacherManifest, load_manifest

    folder = path / "teachers" / teacher
    assert (folder / MANIFEST).is_file()
    manifest = load_manifest(folder, TeacherManifest)
    image = manifest.outputs["image"]
    outputs = {**manifest.outputs, "image": image.model_copy(update={"shards": image.shards[:-1]})}
    changed = manifest.model_copy(update={"outputs": outputs, "statistics": None})
    write_manifest(folder, changed.model_dump_json(indent=1))
