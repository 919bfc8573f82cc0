"""Captions from a small grammar: the same content in many words, one to three sentences."""

from collections.abc import Sequence

import numpy as np

from meddistill.data.phantom.draw import Case
from meddistill.data.phantom.vocabulary import WORDS

_SHOWING = (
    "{Modality} showing {finding}",
    "{Modality} with {finding}",
    "{Finding} on {a_modality}",
    "{Modality} demonstrates {finding}",
    "{Finding} seen on {a_modality}",
    "{Modality} reveals {finding}",
)
_NORMAL = (
    "{Modality} showing {finding}",
    "{Modality} with {finding}",
    "{Finding} on {a_modality}",
    "{Modality}: {finding}",
)
_SIZES = ("It measures about {mm} mm.", "The extent is approximately {mm} mm.", "Size about {mm} mm.")
_UNCOUNTABLE = frozenset(
    {
        "pleural fluid", "diabetic retinopathy", "retinopathy with haemorrhages", "diabetic eye disease",
        "glaucoma", "glaucomatous cupping", "macular oedema", "cystoid macular edema", "intraretinal fluid",
        "drusen", "drusenoid deposits", "drusen of macular degeneration", "colitis", "mucosal inflammation",
        "mucosal ulceration", "adenocarcinoma", "territorial infarction",
    }
)  # fmt: skip


def caption(rng: np.random.Generator, case: Case, *, age: int, sex: str) -> str:
    """One caption of an image.

    It always names the finding by one of its names and the modality by one of its; size, grade, place, how
    the picture was taken and the patient's age and sex come and go.
    """
    modality = pick(rng, WORDS[case.modality].names)
    phrase = finding_phrase(rng, case)
    template = pick(rng, _NORMAL if case.finding.normal else _SHOWING)
    first = template.format(
        Modality=capital(modality),
        a_modality=with_article(modality),
        finding=phrase,
        Finding=capital(phrase),
    )
    extras = _extras(rng, case, age=age, sex=sex)
    count = int(np.searchsorted((0.45, 0.85), rng.random()))
    chosen = [extras[i] for i in sorted(rng.permutation(len(extras))[:count].tolist())]
    return " ".join([f"{first}.", *chosen])


def finding_phrase(rng: np.random.Generator, case: Case) -> str:
    """A finding with some of its attributes, such as `a small spiculated lung nodule`.

    Uncountable names go without article and without a size in words.
    """
    name = case.finding.label if rng.random() < 0.5 else pick(rng, case.finding.names)
    if case.finding.normal:
        return name
    grade = case.finding.grades[case.grade - 1]
    if case.finding.graded_by_size:
        words = [grade] if rng.random() < 0.6 else []
    else:
        words = [case.size_word] if rng.random() < 0.6 and name not in _UNCOUNTABLE else []
        words += [grade] if rng.random() < 0.4 else []
    phrase = " ".join([*words, name])
    if name not in _UNCOUNTABLE:
        phrase = with_article(phrase)
    return f"{phrase} {case.where}" if rng.random() < 0.8 else phrase


def _extras(rng: np.random.Generator, case: Case, *, age: int, sex: str) -> list[str]:
    person = "woman" if sex == "female" else "man"
    extras = [
        f"{capital(case.detail)}.",
        pick(
            rng, (f"{capital(with_article(f'{age}-year-old {person}'))}.", f"Patient: {person}, {age} years.")
        ),
    ]
    if case.finding.normal:
        extras.append(pick(rng, ("No focal lesion.", "Nothing to report.", "No follow-up needed.")))
    else:
        size = f"{case.size_mm:.0f}" if case.size_mm >= 5 else f"{case.size_mm:.1f}"
        extras.append(pick(rng, _SIZES).format(mm=size))
        extras.append(f"Location: {case.where}.")
        extras.append(
            pick(rng, ("No further abnormality.", "Follow-up is advised.", "Other parts are intact."))
        )
    return extras


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of several phrases, each as likely."""
    return choices[int(rng.random() * len(choices))]


def capital(text: str) -> str:
    """The text with its first letter in upper case, the rest as it is."""
    return text[:1].upper() + text[1:]


def with_article(phrase: str) -> str:
    """The phrase after `a` or `an`, by sound as far as these words need it."""
    vowel = phrase[0].lower() in "aeiou" or phrase.startswith(("H&E", "MRI", "80-", "8"))
    return f"{'an' if vowel else 'a'} {phrase}"
