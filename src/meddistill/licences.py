"""Licence terms as data: what teachers, weights and data sets allow, and what a student inherits.

A student's licence is the join of its components' terms (teachers, initial weights, data), the strictest
wins. `enforce` holds a run's `licence_policy` against those terms, by this table:

| terms of a component                     | permissive | research | any |
|------------------------------------------|------------|----------|-----|
| commercial use allowed                   | ok         | ok       | ok  |
| non-commercial                           | refused    | ok       | ok  |
| commercial use unknown                   | refused    | refused  | ok  |
| no derivatives (ND), or unknown          | refused    | refused  | ok  |
| share-alike                              | refused    | ok       | ok  |
| share-alike unknown                      | refused    | ok       | ok  |
| distillation allowed                     | ok         | ok       | ok  |
| distillation non-commercial only         | refused    | ok       | ok  |
| distillation forbidden, or unknown       | refused    | refused  | ok  |
| two different share-alike licences mixed | refused    | refused  | ok  |

`permissive` therefore means: the student may be released under a permissive licence and sold. `research`
means: it may be shared for non-commercial research. `any` refuses nothing and leaves the joined terms on
the student's card. The rules are the same at all three gates (extract, train, export), so that no work is
spent on a student that could not be released; the gate is named in the message.

Under ND terms, models trained on a model's outputs can count as derivatives (CONCH's card says so), which
is why ND is refused before features are extracted. Source of the terms: the licence texts and model cards
at `url`; where nobody has read them, a field is None or "unknown" and blocks.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from meddistill.errors import LicenceError
from meddistill.strict import Strict

NOT_LEGAL_ADVICE: Final = (
    "This is hygiene, not legal advice: it compares licence terms as recorded. Read the licences themselves."
)

Policy = Literal["permissive", "research", "any"]
Gate = Literal["extract", "train", "export"]
Distillation = Literal["allowed", "non_commercial", "unknown", "forbidden"]

_STRICTNESS: Final[tuple[Distillation, ...]] = ("allowed", "non_commercial", "unknown", "forbidden")
_ACTION: Final[Mapping[Gate, str]] = MappingProxyType(
    {
        "extract": "extract features for a student",
        "train": "train a student",
        "export": "export a student",
    }
)


class LicenceTerms(Strict):
    """What one licence allows; null (None) where nobody has read it."""

    name: str
    """What the licence is called."""
    url: str | None = None
    """Where its text is."""
    commercial: bool | None = None
    """Use for profit; null where nobody has read it."""
    derivatives: bool | None = None
    """Adapted models may be shared."""
    share_alike: bool | None = None
    """Adapted models must carry the same licence."""
    gated: bool = False
    """The owner grants access after a click-through."""
    distillation: Distillation = "unknown"
    """Whether a model may be trained on the outputs."""
    redistribute_outputs: bool | None = None
    """Whether features may be handed on; where not, feature stores are private."""
    research_only: bool | None = None
    """Terms or card exclude clinical use."""
    note: str = ""
    """Anything else that a reader must know."""


def _open(name: str, url: str | None, note: str = "") -> LicenceTerms:
    return LicenceTerms(
        name=name,
        url=url,
        commercial=True,
        derivatives=True,
        share_alike=False,
        distillation="allowed",
        redistribute_outputs=True,
        research_only=False,
        note=note,
    )


def _creative_commons(kind: str) -> LicenceTerms:
    non_commercial, no_derivatives = "NC" in kind, "ND" in kind
    distillation: Distillation = "non_commercial" if non_commercial else "allowed"
    return LicenceTerms(
        name=f"CC-{kind}-4.0",
        url=f"https://creativecommons.org/licenses/{kind.lower()}/4.0/legalcode",
        commercial=not non_commercial,
        derivatives=not no_derivatives,
        share_alike="SA" in kind,
        distillation="forbidden" if no_derivatives else distillation,
        redistribute_outputs=not no_derivatives,
        research_only=False,
        note="Models trained on outputs are taken to be adapted material." if no_derivatives else "",
    )


def _named(*terms: LicenceTerms) -> Mapping[str, LicenceTerms]:
    return MappingProxyType({each.name: each for each in terms})


KNOWN: Final[Mapping[str, LicenceTerms]] = _named(
    _open("MIT", "https://spdx.org/licenses/MIT.html"),
    _open("Apache-2.0", "https://spdx.org/licenses/Apache-2.0.html"),
    _open("BSD-3-Clause", "https://spdx.org/licenses/BSD-3-Clause.html"),
    _open("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
    _creative_commons("BY"),
    _creative_commons("BY-SA"),
    _creative_commons("BY-NC"),
    _creative_commons("BY-NC-SA"),
    _creative_commons("BY-NC-ND"),
    LicenceTerms(
        name="MSRLA",
        commercial=False,
        research_only=True,
        note="Microsoft Research Licence Agreement. Its versions differ on distribution; read the one that "
        "came with the weights and write its terms into the recipe.",
    ),
    LicenceTerms(
        name="Apple-ML-Research",
        commercial=False,
        derivatives=True,
        share_alike=False,
        distillation="non_commercial",
        research_only=True,
        note="Research purposes only, derivatives included: no product may start from these weights.",
    ),
    LicenceTerms(
        name="HAI-DEF",
        url="https://developers.google.com/health-ai-developer-foundations/terms",
        commercial=True,
        derivatives=True,
        gated=True,
        note="Commercial use under conditions, clinical use regulated. The terms on distillation "
        "have not been read here; read them and write them into the recipe.",
    ),
    LicenceTerms(name="unknown", note="No licence is known. Ask the owner, or read it and record its terms."),
    _open("own", None, "Trained by the user, free of terms of others."),
    LicenceTerms(
        name="proprietary",
        share_alike=False,
        redistribute_outputs=False,
        note="A contract of the user's. Write what it allows into the recipe as terms of its own.",
    ),
)

_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "apache2": "Apache-2.0",
        "apache-2": "Apache-2.0",
        "bsd": "BSD-3-Clause",
        "cc0": "CC0-1.0",
        "apple-amlr": "Apple-ML-Research",
        "health-ai-developer-foundations": "HAI-DEF",
        "msr-la": "MSRLA",
    }
)
_BY_LOWER: Final = MappingProxyType({name.lower(): name for name in KNOWN})


def resolve(licence: str | LicenceTerms | None) -> LicenceTerms:
    """Terms by their name in `KNOWN` (case is ignored), or the terms given; None is `unknown`.

    Raises
    ------
    LicenceError
        If the name is not known. A mistyped licence must not become `unknown` quietly.
    """
    if licence is None:
        return KNOWN["unknown"]
    if isinstance(licence, LicenceTerms):
        return licence
    lower = licence.strip().lower()
    name = _ALIASES.get(lower) or _BY_LOWER.get(lower)
    if name is None:
        msg = (
            f"`licence` must be one of {', '.join(KNOWN)}; got {licence!r}. Write the terms themselves: "
            "{name: ..., commercial: true|false, derivatives: true|false, share_alike: true|false, "
            "distillation: allowed|non_commercial|forbidden}."
        )
        raise LicenceError(msg)
    return KNOWN[name]


def join(terms: Iterable[LicenceTerms]) -> LicenceTerms:
    """The terms that a work made from all of these inherits: in every field the strictest wins.

    For permissions (`commercial`, `derivatives`, `redistribute_outputs`) False < None < True, the least
    wins; for duties (`share_alike`, `research_only`) True wins over None over False. `distillation`:
    forbidden, unknown, non_commercial, allowed. Commutative, associative and idempotent; the join of
    nothing is `own`.
    """
    parts = _distinct(terms)
    if not parts:
        return KNOWN["own"]
    if len(parts) == 1:
        return parts[0]
    return LicenceTerms(
        name=" AND ".join(sorted({name for part in parts for name in part.name.split(" AND ")})),
        commercial=_permission(part.commercial for part in parts),
        derivatives=_permission(part.derivatives for part in parts),
        share_alike=_duty(part.share_alike for part in parts),
        gated=any(part.gated for part in parts),
        distillation=max((part.distillation for part in parts), key=_STRICTNESS.index),
        redistribute_outputs=_permission(part.redistribute_outputs for part in parts),
        research_only=_duty(part.research_only for part in parts),
        note=" ".join(sorted({note for part in parts for note in _sentences(part.note)})),
    )


def _distinct(terms: Iterable[LicenceTerms]) -> list[LicenceTerms]:
    distinct = list(dict.fromkeys(terms))
    outside = [each for each in distinct if each != KNOWN["own"]]
    return outside or distinct


def _sentences(note: str) -> list[str]:
    return [sentence.strip().removesuffix(".") + "." for sentence in note.split(". ") if sentence.strip()]


def _permission(values: Iterable[bool | None]) -> bool | None:
    seen = set(values)
    return next((value for value in (False, None) if value in seen), True)


def _duty(values: Iterable[bool | None]) -> bool | None:
    seen = set(values)
    return next((value for value in (True, None) if value in seen), False)


def _refusals_research(terms: LicenceTerms) -> list[str]:
    reasons = []
    if terms.commercial is None:
        reasons.append("whether commercial use is allowed is unknown")
    if terms.derivatives is None:
        reasons.append("whether derivatives may be shared is unknown")
    if terms.derivatives is False:
        reasons.append("derivatives must not be shared (ND), and a model trained on its outputs can be one")
    if terms.distillation == "forbidden":
        reasons.append("training on its outputs is forbidden")
    if terms.distillation == "unknown":
        reasons.append("whether a model may be trained on its outputs is unknown")
    return reasons


def _refusals_permissive(terms: LicenceTerms) -> list[str]:
    reasons = _refusals_research(terms)
    if terms.commercial is False:
        reasons.insert(0, "commercial use is not allowed")
    if terms.distillation == "non_commercial":
        reasons.append("training on its outputs is allowed for non-commercial purposes only")
    if terms.share_alike is True:
        reasons.append("its share-alike terms would pass to the student")
    if terms.share_alike is None:
        reasons.append("whether it requires share-alike is unknown")
    return reasons


def _no_refusals(_: LicenceTerms) -> list[str]:
    return []


_RULES: Final[Mapping[Policy, Callable[[LicenceTerms], list[str]]]] = MappingProxyType(
    {"permissive": _refusals_permissive, "research": _refusals_research, "any": _no_refusals}
)


def refusals(policy: Policy, terms: LicenceTerms) -> tuple[str, ...]:
    """Why these terms do not fit the policy, one reason an entry; empty when they do."""
    return tuple(_RULES[policy](terms))


def enforce(policy: Policy, components: Mapping[str, LicenceTerms], *, gate: Gate) -> LicenceTerms:
    """Refuse components that the policy excludes; return the terms that the student inherits.

    Parameters
    ----------
    policy
        The recipe's `licence_policy`; the module's docstring has its table.
    components
        Every teacher, set of initial weights and data set by the name that the user knows it by.
    gate
        Where in the run this is asked; it only words the message.

    Raises
    ------
    LicenceError
        With one line for every offender: its name, its licence, every reason.
    """
    offenders = [
        f"{name} ({terms.name}): {'; '.join(reasons)}."
        for name, terms in components.items()
        if (reasons := refusals(policy, terms))
    ]
    offenders += _share_alike_conflict(policy, components)
    if offenders:
        raise LicenceError(_message(policy, offenders, gate, _wider(policy, components)))
    return join(components.values())


def _share_alike_conflict(policy: Policy, components: Mapping[str, LicenceTerms]) -> list[str]:
    sharing = {name: terms.name for name, terms in components.items() if terms.share_alike}
    if policy != "research" or len(set(sharing.values())) < 2:
        return []
    named = ", ".join(f"{name} ({licence})" for name, licence in sharing.items())
    return [f"{named}: each requires the student to carry its own licence, and it can carry only one."]


def _wider(policy: Policy, components: Mapping[str, LicenceTerms]) -> str:
    """The policies that would let all components in."""
    research = policy == "permissive" and not _share_alike_conflict("research", components)
    research = research and not any(refusals("research", terms) for terms in components.values())
    return "`licence_policy: research` or `any`" if research else "`licence_policy: any`"


def _message(policy: Policy, offenders: list[str], gate: Gate, wider: str) -> str:
    lines = [
        f"`licence_policy` must allow all components; got {policy!r}, which refuses to {_ACTION[gate]} with:",
        *offenders,
        "Remove these, or record their terms in the recipe if you hold others (a contract, a consent), "
        f"or set {wider} for work that is not released. " + NOT_LEGAL_ADVICE,
    ]
    return "\n  ".join(lines)
