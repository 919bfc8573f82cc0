"""`LICENSES/`: the terms that the student inherits, one file a licence."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from meddistill.bundle_format import LICENCES
from meddistill.licences import NOT_LEGAL_ADVICE, LicenceTerms

_SAID = {True: "yes", False: "no", None: "unknown"}


def write_licences(folder: Path, *, components: Mapping[str, LicenceTerms], joined: LicenceTerms) -> None:
    """Write what is recorded of each licence, who brings it, and where its text is."""
    place = folder / LICENCES
    place.mkdir(parents=True, exist_ok=True)
    brought: dict[LicenceTerms, list[str]] = defaultdict(list)
    for name, terms in components.items():
        brought[terms].append(name)
    taken: set[str] = set()
    for terms, names in brought.items():
        path = place / f"{_file_name(terms.name, taken)}.txt"
        path.write_text(_text(terms, f"Brought by: {', '.join(names)}."), encoding="utf-8")
    (place / "STUDENT.txt").write_text(
        _text(joined, "The student's terms: of every component's terms the strictest."), encoding="utf-8"
    )


def described(terms: LicenceTerms) -> list[tuple[str, str]]:
    """The recorded terms in words."""
    return [
        ("commercial use", _SAID[terms.commercial]),
        ("derivatives may be shared", _SAID[terms.derivatives]),
        ("share-alike", _SAID[terms.share_alike]),
        ("access is gated", _SAID[terms.gated]),
        ("training on outputs", terms.distillation.replace("_", "-")),
        ("outputs may be handed on", _SAID[terms.redistribute_outputs]),
        ("research only", _SAID[terms.research_only]),
    ]


def _text(terms: LicenceTerms, who: str) -> str:
    lines = [terms.name, "", who, ""]
    lines += [f"{what}: {answer}" for what, answer in described(terms)]
    lines += ["", terms.note] if terms.note else []
    lines += ["", f"Full text: {terms.url}" if terms.url else "Full text: not recorded."]
    return "\n".join([*lines, "", NOT_LEGAL_ADVICE, ""])


def _file_name(licence: str, taken: set[str]) -> str:
    """A name that every file system takes; numbered where two terms share a licence's name."""
    plain = (
        "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in licence)[:80] or "terms"
    )
    name, number = plain, 2
    while name.lower() in taken or name.upper() == "STUDENT":
        name, number = f"{plain}-{number}", number + 1
    taken.add(name.lower())
    return name
