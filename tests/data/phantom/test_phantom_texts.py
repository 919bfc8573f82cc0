"""Captions, questions, outcomes, prompts: words and numbers that agree with the picture."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from meddistill.data.phantom.captions import caption, finding_phrase, with_article
from meddistill.data.phantom.cohort import draw_sample, generator, patient
from meddistill.data.phantom.config import MODALITIES, PhantomConfig
from meddistill.data.phantom.outcomes import log_hazard, survival
from meddistill.data.phantom.prompts import prompts, tasks, templates
from meddistill.data.phantom.questions import questions
from meddistill.data.phantom.vocabulary import WORDS
from meddistill.errors import ConfigError

CONFIG = PhantomConfig(samples=2000, seed=2)


def cases(count=540):
    return [patient(CONFIG, index) for index in range(count)]


def test_captions_name_modality_and_finding_and_no_other():
    for person in cases():
        case = person.case
        text = caption(np.random.default_rng(person.index), case, age=person.age, sex=person.sex).lower()
        assert any(name.lower() in text for name in WORDS[case.modality].names)
        assert any(name.lower() in text for name in case.finding.names)
        for other in WORDS[case.modality].findings:
            if other is not case.finding:
                assert not any(name.lower() in text for name in other.names)


def test_captions_vary_in_words_and_length():
    for person in cases(54):
        written = {
            caption(np.random.default_rng(seed), person.case, age=person.age, sex=person.sex)
            for seed in range(20)
        }
        assert len(written) >= 15
        assert len({text.count(". ") for text in written}) >= 2


def test_captions_tell_the_right_side_and_no_wrong_one():
    for person in cases():
        case = person.case
        text = caption(np.random.default_rng(person.index), case, age=person.age, sex=person.sex)
        if case.side and case.modality != "fundus":
            assert {"left": "right", "right": "left"}[case.side] not in text


def test_uncountable_findings_have_no_article():
    glaucoma = next(p.case for p in cases() if p.case.finding.label == "glaucoma")
    phrases = {finding_phrase(np.random.default_rng(seed), glaucoma) for seed in range(40)}
    assert not any(phrase.startswith(("a glaucoma", "a early", "an early glaucoma")) for phrase in phrases)
    assert [with_article(word) for word in ("ulcer", "polyp", "80-year-old man", "H&E section")] == [
        "an ulcer",
        "a polyp",
        "an 80-year-old man",
        "an H&E section",
    ]


def test_questions_agree_with_the_case():
    kinds, types = set(), set()
    for person in cases():
        case = person.case
        asked = questions(np.random.default_rng(person.index), case)
        assert len(asked) == len({item.question for item in asked}) == 4
        for item in asked:
            kinds.add(item.question_type)
            types.add(item.answer_type)
            if item.question in ("Is this image normal?", "Is the study unremarkable?"):
                assert item.answer == ("yes" if case.finding.normal else "no")
            if item.question.startswith(("Is there evidence of", "Does the image show")):
                named = any(name in item.question for name in case.finding.names)
                assert item.answer == ("yes" if named else "no")
            if item.question.startswith(("On which side", "Which side")):
                assert item.answer == case.side
            if item.question_type == "modality" and item.answer_type == "open":
                assert item.answer == WORDS[case.modality].label
    assert kinds == {"modality", "anatomy", "abnormality", "position", "size"}
    assert types == {"closed", "open"}


def test_yes_and_no_are_both_common():
    answers = [q.answer for p in cases() for q in questions(np.random.default_rng(p.index), p.case)]
    yes, no = answers.count("yes"), answers.count("no")
    assert 0.5 < yes / no < 2.0


def concordance(risk, times, events):
    """Harrell's C: of the pairs whose order is known, how many have the higher risk die first."""
    first = (times[:, None] < times[None, :]) & (events[:, None] == 1)
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return (first * higher).sum() / first.sum()


def test_survival_follows_the_lesion():
    people = [p for p in cases(900) if not p.case.finding.normal]
    outcomes = [survival(generator(CONFIG, "outcome", p.index), p.case, age=p.age) for p in people]
    times = np.array([o.time_months for o in outcomes])
    events = np.array([o.event for o in outcomes])
    sizes = np.array([p.case.severity for p in people])
    assert concordance(sizes, times, events) > 0.6
    assert concordance(np.array([log_hazard(p.case, age=p.age) for p in people]), times, events) > 0.7
    assert concordance(np.random.default_rng(0).permutation(sizes), times, events) < 0.55
    assert 0.4 < events.mean() < 0.95
    assert times.min() > 0
    assert times.max() <= 72


def test_censoring_does_not_depend_on_the_lesion():
    """Follow-up of the survivors: 36 to 72 months whatever the size."""
    people = cases(900)
    outcomes = [survival(generator(CONFIG, "outcome", p.index), p.case, age=p.age) for p in people]
    alive = [(p.case.severity, o.time_months) for p, o in zip(people, outcomes, strict=True) if not o.event]
    severity, time = np.array(alive).T
    assert time.min() >= 36
    assert spearmanr(severity, time).pvalue > 0.001


def test_outcomes_have_the_promised_median():
    healthy = next(p.case for p in cases() if p.case.finding.normal)
    rng = np.random.default_rng(0)
    outcomes = [survival(rng, healthy, age=60) for _ in range(4000)]
    dead_by_36 = np.mean([o.event and o.time_months <= 36 for o in outcomes])
    assert dead_by_36 == pytest.approx(1 - 0.5 ** ((36 / 90) ** 1.3), abs=0.02)


def test_prompts_have_the_labels_of_the_tables():
    assert tasks(("xray", "oct")) == ("modality", "xray_finding", "oct_finding")
    assert set(prompts("modality")) == {WORDS[modality].label for modality in MODALITIES}
    for modality in MODALITIES:
        labels = {finding.label for finding in WORDS[modality].findings}
        assert set(prompts(f"{modality}_finding")) == labels
    for task in tasks():
        for template in templates(task):
            assert template.count("{}") == 1
    with pytest.raises(ConfigError, match="`task` must be one of the phantom's; got 'x'"):
        prompts("x")


def test_facts_of_the_drawing_are_those_of_the_patient():
    for sample in range(0, 54, 2):
        person, drawing = draw_sample(CONFIG, sample)
        assert drawing.facts.finding is person.case.finding
        assert abs(drawing.facts.severity - person.case.severity) < 0.2
        assert drawing.facts.detail
