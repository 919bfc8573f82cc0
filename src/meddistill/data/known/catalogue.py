"""The known public data sets: what they are, under what terms, and how a copy is laid out. Loads no torch."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from meddistill.core_yaml import load_yaml
from meddistill.data.datasets import DatasetName
from meddistill.errors import ConfigError, did_you_mean
from meddistill.licences import LicenceTerms, resolve
from meddistill.strict import Strict

TaskWord = Literal[
    "zero-shot classification",
    "linear probe",
    "multi-label classification",
    "retrieval",
    "visual question answering",
    "survival",
    "cancer diagnosis",
]
# How the layout is known, from firm to loose.
Certainty = Literal["code", "card", "memory"]


class KnownSet(Strict):
    """One known data set.

    `key` is its name on the command line, `dataset` its name(s) in `dataset:` of tasks and
    `pretraining_data` of teachers. `licence` is a name that `licences.resolve` knows; what it does not say
    stands in `licence_note`. `access` says who may have it, `source` where it is handed out, in words.
    `layout_certainty`: read in public `code` that reads it, on a `card`, or from `memory`. `verified`:
    whether the preparer has read a real copy, not only a fixture of this layout.
    """

    key: str = ""
    name: str
    dataset: tuple[DatasetName, ...] = Field(min_length=1)
    tasks: tuple[TaskWord, ...] = Field(min_length=1)
    modalities: tuple[str, ...] = Field(min_length=1)
    licence: str
    licence_note: str = ""
    access: str
    source: str
    layout: str
    layout_certainty: Certainty
    verified: bool = False
    notes: str = ""
    preparer: str

    @property
    def terms(self) -> LicenceTerms:
        """Its licence as data."""
        return resolve(self.licence)

    def command(self) -> str:
        """The command that prepares it, with the folders that the packaged suites expect."""
        return f"meddistill datasets prepare {self.key} --from data/sources/{self.key} --out data/{self.key}"


@cache
def known_sets() -> Mapping[str, KnownSet]:
    """All entries by key, in the file's order."""
    text = files("meddistill.data.known").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    content = load_yaml(text)
    return MappingProxyType({key: KnownSet(key=key, **value) for key, value in content.items()})


def find_set(key: str) -> KnownSet:
    """The entry of a known set; raises ConfigError with what is known otherwise."""
    known = known_sets()
    if key not in known:
        hint = did_you_mean(key, known) or " See: meddistill datasets list"
        rule = f"a known data set must be one of {', '.join(known)}; got {key!r}.{hint}"
        subject = "datasets"
        raise ConfigError(subject, [rule])
    return known[key]
