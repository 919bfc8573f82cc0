"""Every modality and finding: what is drawn, where the masks are, that equal seeds give equal pictures."""

import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from meddistill.data.phantom.cohort import DRAW, draw_sample, patient, patient_of
from meddistill.data.phantom.config import MODALITIES, PhantomConfig
from meddistill.data.phantom.draw import Case, Drawing
from meddistill.data.phantom.vocabulary import WORDS

EVERY = [(modality, which) for modality in MODALITIES for which in range(3)]


def case_of(modality, which, *, severity=0.5, grade=2, turn=0):
    finding = WORDS[modality].findings[which]
    if finding.normal:
        return Case(modality=modality, finding=finding)
    return Case(
        modality=modality,
        finding=finding,
        severity=severity,
        grade=grade,
        side=finding.sides[turn % 2] if finding.sides else "",
        place=finding.places[turn % len(finding.places)] if finding.places else "",
    )


def drawn(modality, which, *, seed=0, size=64, **case) -> Drawing:
    rng = np.random.default_rng([seed, which])
    return DRAW[modality](rng, size, case_of(modality, which, turn=seed, **case))


@pytest.mark.parametrize(("modality", "which"), EVERY)
@pytest.mark.filterwarnings("error")
def test_pictures_and_masks_have_the_promised_form(modality, which):
    for seed, severity in enumerate((0.0, 0.5, 1.0)):
        drawing = drawn(modality, which, seed=seed, severity=severity, grade=seed + 1)
        assert drawing.image.shape == (64, 64, 3)
        assert drawing.image.dtype == np.uint8
        assert drawing.mask.shape == (64, 64)
        assert drawing.image.std() > 10
        assert drawing.gray == bool((drawing.image == drawing.image[..., :1]).all())
        assert set(np.unique(drawing.mask)) - {0} == set(drawing.structures.values())


@pytest.mark.parametrize(("modality", "which"), EVERY)
def test_a_lesion_has_a_mask_exactly_when_there_is_one(modality, which):
    finding = WORDS[modality].findings[which]
    others = {other.structure for other in WORDS[modality].findings} - {finding.structure, ""}
    for seed in range(30):
        drawing = drawn(modality, which, seed=seed, severity=(seed % 11) / 10, grade=1 + seed % 3)
        assert not others & set(drawing.structures)
        if not finding.normal:
            assert (drawing.mask == drawing.structures[finding.structure]).sum() >= 2


@pytest.mark.parametrize(("modality", "which"), [pair for pair in EVERY if pair[1]])
def test_a_more_severe_lesion_is_larger(modality, which):
    finding = WORDS[modality].findings[which]

    def area(severity):
        drawings = [drawn(modality, which, seed=seed, severity=severity) for seed in range(12)]
        return np.mean([(d.mask == d.structures[finding.structure]).sum() for d in drawings])

    assert area(0.05) < area(0.5) < area(0.95)


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_side_of_the_patient_is_the_side_of_the_mask(modality):
    """Radiological convention: the patient's left is on the right. In a colonoscopy left is left."""
    for which in (1, 2):
        finding = WORDS[modality].findings[which]
        if not finding.sides or modality == "fundus":
            continue
        for seed in range(6):
            drawing = drawn(modality, which, seed=seed)
            columns = np.nonzero(drawing.mask == drawing.structures[finding.structure])[1]
            on_the_right = columns.mean() > 31.5
            assert on_the_right == ((drawing.facts.side == "left") != (modality == "endoscopy"))


def test_the_optic_disc_is_towards_the_nose():
    for seed in range(6):
        drawing = drawn("fundus", 1, seed=seed)
        columns = np.nonzero(drawing.mask == drawing.structures["optic disc"])[1]
        assert (columns.mean() > 31.5) == (drawing.facts.side == "right")


@pytest.mark.parametrize(("modality", "which"), EVERY)
def test_the_picture_is_the_same_at_other_sizes(modality, which):
    small = drawn(modality, which, seed=3)
    large = drawn(modality, which, seed=3, size=192)
    assert set(small.structures) == set(large.structures)
    reduced = large.image.reshape(64, 3, 64, 3, 3).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), small.image.ravel().astype(float))[0, 1] > 0.7
    for name, value in small.structures.items():
        near = large.mask[1::3, 1::3] == large.structures[name]
        here = small.mask == value
        if here.sum() > 80 and name != "retinal vessels":
            assert (near & here).sum() / (near | here).sum() > 0.7, name


def test_a_sample_depends_on_seed_and_number_only():
    few, many = PhantomConfig(samples=5, seed=4), PhantomConfig(samples=500, seed=4)
    forwards = [draw_sample(few, i)[1] for i in range(5)]
    backwards = [draw_sample(many, i)[1] for i in reversed(range(5))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert (one.image == other.image).all()
        assert (one.mask == other.mask).all()
        assert one.facts == other.facts
    other_seed = draw_sample(PhantomConfig(samples=5, seed=5), 0)[1]
    assert (other_seed.image != forwards[0].image).any()


def test_images_of_one_patient_differ_but_agree_on_the_disease():
    config = PhantomConfig(samples=60, seed=1, images_per_patient=3)
    for first in range(0, 60, 3):
        drawings = [draw_sample(config, first + step) for step in range(3)]
        assert len({person.id for person, _ in drawings}) == 1
        assert len({(d.facts.finding.label, d.facts.side, d.facts.place) for _, d in drawings}) == 1
        assert (drawings[0][1].image != drawings[1][1].image).any()


def test_patients_are_balanced_and_split_seven_one_two():
    config = PhantomConfig(samples=540, seed=0, images_per_patient=2)
    people = [patient(config, index) for index in range(patient_of(config, 539) + 1)]
    assert len({person.id for person in people}) == 270
    splits = [person.split for person in people]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (189, 27, 54)
    counts = np.unique([person.case.finding.label for person in people], return_counts=True)[1]
    assert counts.tolist() == [10] * 27


def test_modalities_are_easy_and_findings_are_not():
    """A linear model on 16 x 16 pixels tells modalities apart, but not what ails the patient."""
    config = PhantomConfig(samples=540, seed=0, images_per_patient=1)
    pairs = [draw_sample(config, i) for i in range(config.samples)]
    pixels = np.stack([d.image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3)).ravel() / 255 for _, d in pairs])
    modality = np.array([person.case.modality for person, _ in pairs])
    finding = np.array([person.case.finding.label for person, _ in pairs])
    train = np.array([person.split == "train" for person, _ in pairs])

    def score(labels, rows):
        model = LogisticRegression(C=0.1, max_iter=400).fit(pixels[rows & train], labels[rows & train])
        return model.score(pixels[rows & ~train], labels[rows & ~train])

    assert score(modality, np.ones(len(pairs), dtype=bool)) >= 0.9
    assert np.mean([score(finding, modality == name) for name in MODALITIES]) < 0.75


def test_drawing_is_fast():
    """The promise is 500 images a second on a quiet core; half of it leaves room for a busy machine.

    Each image counts with its fastest of several times: the others measure the machine's other work.
    """
    config = PhantomConfig(samples=1, seed=0)
    times = np.full(108, np.inf)
    for _ in range(5):
        for i in range(len(times)):
            start = time.perf_counter()
            draw_sample(config, i)
            times[i] = min(times[i], time.perf_counter() - start)
    assert 1 / times.mean() >= 250
