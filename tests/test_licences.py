"""Licence terms: the table of policies, the laws of the join, and what the refusals say."""

import itertools

import pytest

from meddistill.errors import LicenceError
from meddistill.licences import KNOWN, LicenceTerms, enforce, join, refusals, resolve

PERMISSIVE_OK = {"MIT", "Apache-2.0", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0", "own"}
RESEARCH_OK = PERMISSIVE_OK | {"CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "Apple-ML-Research"}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_policy_table_of_known_licences(name: str) -> None:
    fits = {policy: not refusals(policy, KNOWN[name]) for policy in ("permissive", "research", "any")}
    assert fits == {"permissive": name in PERMISSIVE_OK, "research": name in RESEARCH_OK, "any": True}


OPEN = KNOWN["MIT"].model_dump() | {"name": "test"}


@pytest.mark.parametrize(
    ("change", "permissive", "research"),
    [
        ({}, [], []),
        ({"commercial": False}, ["commercial use is not"], []),
        (
            {"commercial": None},
            ["commercial use is allowed is unknown"],
            ["commercial use is allowed is unknown"],
        ),
        ({"derivatives": False}, ["(ND)"], ["(ND)"]),
        (
            {"derivatives": None},
            ["derivatives may be shared is unknown"],
            ["derivatives may be shared is unknown"],
        ),
        ({"share_alike": True}, ["share-alike terms"], []),
        ({"share_alike": None}, ["requires share-alike is unknown"], []),
        ({"distillation": "non_commercial"}, ["non-commercial purposes only"], []),
        ({"distillation": "forbidden"}, ["outputs is forbidden"], ["outputs is forbidden"]),
        (
            {"distillation": "unknown"},
            ["trained on its outputs is unknown"],
            ["trained on its outputs is unknown"],
        ),
        ({"gated": True, "research_only": True, "redistribute_outputs": False}, [], []),
    ],
)
def test_policy_table_field_by_field(change: dict, permissive: list[str], research: list[str]) -> None:
    terms = LicenceTerms(**(OPEN | change))
    for policy, expected in (("permissive", permissive), ("research", research), ("any", [])):
        reasons = refusals(policy, terms)
        assert len(reasons) == len(expected)
        assert all(part in reason for part, reason in zip(expected, reasons, strict=True))


def test_join_takes_the_strictest_of_every_field() -> None:
    joined = join([KNOWN["MIT"], KNOWN["CC-BY-NC-4.0"], KNOWN["HAI-DEF"]])
    assert joined.name == "CC-BY-NC-4.0 AND HAI-DEF AND MIT"
    assert joined.commercial is False
    assert joined.derivatives is True
    assert joined.share_alike is None
    assert joined.distillation == "unknown"
    assert joined.gated is True
    assert joined.research_only is None


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("allowed", "non_commercial"), "non_commercial"),
        (("unknown", "non_commercial"), "unknown"),
        (("unknown", "forbidden"), "forbidden"),
    ],
)
def test_join_of_distillation(parts: tuple[str, str], expected: str) -> None:
    terms = [LicenceTerms(**(OPEN | {"name": part, "distillation": part})) for part in parts]
    assert join(terms).distillation == expected


def test_join_is_a_semilattice() -> None:
    for a, b, c in itertools.product(KNOWN.values(), repeat=3):
        assert join([a, a]) == a
        assert join([a, b]) == join([b, a])
        assert join([join([a, b]), c]) == join([a, join([b, c])])


def test_join_never_loosens() -> None:
    for a, b in itertools.product(KNOWN.values(), repeat=2):
        for policy in ("permissive", "research"):
            if refusals(policy, a) or refusals(policy, b):
                assert refusals(policy, join([a, b]))


def test_own_models_add_no_terms() -> None:
    assert join([KNOWN["own"], KNOWN["MIT"]]) == KNOWN["MIT"]
    assert join([]) == KNOWN["own"]


def test_resolve() -> None:
    assert resolve(" apache-2.0 ") is KNOWN["Apache-2.0"]
    assert resolve("cc-by-nc-nd-4.0") is KNOWN["CC-BY-NC-ND-4.0"]
    assert resolve(None) is KNOWN["unknown"]
    own = LicenceTerms(name="contract", commercial=True)
    assert resolve(own) is own
    with pytest.raises(
        LicenceError, match=r"`licence` must be one of MIT.*got 'Apache-3'.*distillation: allowed"
    ):
        resolve("Apache-3")


def test_enforce_names_every_offender_with_every_reason_and_a_remedy() -> None:
    components = {
        "good": KNOWN["MIT"],
        "pathology": KNOWN["CC-BY-NC-ND-4.0"],
        "weights of the student": KNOWN["unknown"],
    }
    with pytest.raises(LicenceError) as caught:
        enforce("permissive", components, gate="extract")
    message = str(caught.value)
    assert "refuses to extract features for a student with:" in message
    assert (
        "pathology (CC-BY-NC-ND-4.0): commercial use is not allowed; derivatives must not be shared"
        in message
    )
    assert "weights of the student (unknown): whether commercial use is allowed is unknown" in message
    assert "good" not in message
    assert "record their terms in the recipe" in message
    assert "or set `licence_policy: any` for work" in message
    assert "not legal advice" in message
    with pytest.raises(LicenceError, match="or set `licence_policy: research` or `any` for work"):
        enforce("permissive", {"slides": KNOWN["CC-BY-NC-4.0"]}, gate="extract")


@pytest.mark.parametrize(("gate", "words"), [("train", "train a student"), ("export", "export a student")])
def test_the_gate_is_named(gate: str, words: str) -> None:
    with pytest.raises(LicenceError, match=words):
        enforce("research", {"x": KNOWN["unknown"]}, gate=gate)


def test_enforce_returns_what_the_student_inherits() -> None:
    terms = enforce("research", {"a": KNOWN["CC-BY-NC-4.0"], "b": KNOWN["MIT"]}, gate="train")
    assert terms.commercial is False
    assert enforce("any", {"a": KNOWN["unknown"]}, gate="export") == KNOWN["unknown"]


def test_two_share_alike_licences_cannot_be_mixed() -> None:
    components = {"a": KNOWN["CC-BY-SA-4.0"], "b": KNOWN["CC-BY-NC-SA-4.0"]}
    with pytest.raises(LicenceError, match=r"a \(CC-BY-SA-4.0\), b \(CC-BY-NC-SA-4.0\): each requires"):
        enforce("research", components, gate="train")
    enforce("research", {"a": KNOWN["CC-BY-SA-4.0"], "b": KNOWN["CC-BY-SA-4.0"]}, gate="train")


def test_terms_survive_json() -> None:
    for terms in KNOWN.values():
        assert LicenceTerms.model_validate_json(terms.model_dump_json()) == terms
