"""From images and clinical columns to features, and patients to folds."""

import numpy as np
import pytest
from cohorts import cohort
from sklearn.decomposition import PCA

from meddistill.evaluation.tasks.survival.clinical import read_clinical
from meddistill.evaluation.tasks.survival.config import SurvivalConfig
from meddistill.evaluation.tasks.survival.features import clinical_block, image_block, pooled, side_by_side
from meddistill.evaluation.tasks.survival.fitting import Outcomes, choose_penalty, inner_folds
from meddistill.evaluation.tasks.survival.folds import assign_folds


def _known(times: np.ndarray, events: np.ndarray, sites: list[str] | None = None) -> Outcomes:
    return Outcomes(times=times, events=events, strata=np.zeros(len(times), dtype=np.int64), sites=sites)


def test_pooling_by_hand() -> None:
    rows = np.array([[3, 4], [0, 2], [-1, 0]], dtype=np.float32)
    of_row = np.array([0, 0, 1])
    np.testing.assert_allclose(pooled(rows, of_row, 2, "mean"), [[0.3, 0.9], [-1, 0]], atol=1e-7)
    np.testing.assert_allclose(pooled(rows, of_row, 2, "max"), [[0.6, 1.0], [-1, 0]], atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 8), (20, 50)])
def test_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=shape) * random.uniform(0.1, 3, size=shape[1]) + 5
    train = np.arange(shape[0] - 5)
    found = image_block(features, 3)(train, 10)
    scaled = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
    oracle = PCA(3).fit(scaled[train]).transform(scaled)
    oracle /= np.sqrt(oracle[train].var(axis=0).sum())
    np.testing.assert_allclose(np.abs(found), np.abs(oracle), atol=1e-9)
    assert found[train].var(axis=0).sum() == pytest.approx(1)


def test_few_events_allow_few_components() -> None:
    block = image_block(np.random.default_rng(0).normal(size=(60, 30)), None)
    widths = [block(np.arange(50), events).shape[1] for events in (0, 3, 12, 40)]
    assert widths == [1, 1, 6, 16]


def test_equal_images_and_no_training_patients_are_zero() -> None:
    equal = image_block(np.full((6, 4), 0.3), None)(np.arange(4), 2)
    assert not equal.any()
    assert not image_block(np.eye(3), None)(np.zeros(0, dtype=np.int64), 0).any()


def test_clinical_columns_by_hand() -> None:
    columns = {"age": ["50", "", "70", "60"], "sex": ["m", "f", "", "m"], "stage": ["a", "a", "a", "b"]}
    clinical = read_clinical(columns, 4)
    assert set(clinical.numbers) == {"age"}
    found = clinical.design(np.array([0, 1, 2]))
    # Age with the mean of 50 and 70 for its blank, the blank itself, and "m": of equally frequent words the
    # first in the alphabet is the one that blanks count as. Of `stage` the three have one value alone.
    np.testing.assert_allclose(found, [[50, 0, 1], [60, 1, 0], [70, 0, 0], [60, 0, 1]])


def test_blocks_weigh_the_same() -> None:
    random = np.random.default_rng(0)
    clinical = read_clinical({"age": [f"{value}" for value in random.normal(60, 10, 30)]}, 30)
    both = side_by_side(image_block(random.normal(size=(30, 9)), 4), clinical_block(clinical))
    train = np.arange(20)
    found = both(train, 10)[train].var(axis=0)
    assert (found[:4].sum(), found[4:].sum()) == (pytest.approx(1), pytest.approx(1))


def test_folds_spread_events_and_keep_sites_whole() -> None:
    events = np.arange(50) % 5 == 0
    folds = assign_folds(events, folds=5, seed=0)
    assert [int(events[folds == fold].sum()) for fold in range(5)] == [2] * 5
    np.testing.assert_array_equal(folds, assign_folds(events, folds=5, seed=0))
    assert not np.array_equal(folds, assign_folds(events, folds=5, seed=1))
    sites = [f"site {number % 7}" for number in range(50)]
    kept = assign_folds(events, folds=5, seed=0, sites=sites)
    assert len(set(zip(kept.tolist(), sites, strict=True))) == 7


@pytest.mark.parametrize(("patients", "folds"), [(1, 1), (2, 2), (3, 3), (9, 5)])
def test_few_patients_make_few_folds(patients: int, folds: int) -> None:
    for events in (np.zeros(patients, dtype=bool), np.ones(patients, dtype=bool)):
        assert len(set(assign_folds(events, folds=5, seed=0))) == folds


@pytest.mark.parametrize("head", ["cox", "discrete"])
def test_the_penalty_is_small_for_a_signal_and_great_without(head: str) -> None:
    config = SurvivalConfig.model_validate({"name": "s", "kind": "survival", "table": "t", "head": head})
    features, times, events = cohort(n=200, width=2, signal=2.0)
    assert choose_penalty(features, _known(times, events), config=config) < 0.1
    noise = np.random.default_rng(9).normal(size=(200, 12))
    assert choose_penalty(noise, _known(times, events), config=config) >= 1
    nobody = np.zeros(200, dtype=bool)
    assert choose_penalty(features, _known(times, nobody), config=config) == 10


def test_sites_stay_whole_in_inner_folds_too() -> None:
    config = SurvivalConfig.model_validate({"name": "s", "kind": "survival", "table": "t"})
    features, times, events = cohort(n=60)
    sites = [f"site {number % 8}" for number in range(60)]
    inner = inner_folds(_known(times, events, sites), config)
    assert len(set(inner.tolist())) == 5
    assert len(set(zip(inner.tolist(), sites, strict=True))) == 8
    here = _known(times, events, ["here"] * 60)
    assert choose_penalty(features, here, config=config) == 10  # one site leaves nobody to fit on


def test_a_site_that_gives_its_patients_away_does_not_choose_the_penalty() -> None:
    """Features that say nothing but the site, whose hazards differ: worth nothing on a new site."""
    config = SurvivalConfig.model_validate({"name": "s", "kind": "survival", "table": "t"})
    random = np.random.default_rng(3)
    site = np.repeat(np.arange(8), 30)
    times = random.exponential(10 * np.exp(random.normal(size=8))[site])
    features = np.eye(8)[site] + random.normal(scale=0.05, size=(240, 8))
    events = np.ones(240, dtype=bool)
    assert choose_penalty(features, _known(times, events), config=config) < 0.1
    named = [f"site {number}" for number in site]
    assert choose_penalty(features, _known(times, events, named), config=config) >= 1
