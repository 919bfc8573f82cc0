"""Names of public data sets: one way to compare them, however they are spelt. Loads no torch."""

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator

_SEPARATORS: Final = re.compile(r"[\W_]+")
# Spellings that letters alone do not bring together, and versions that share their images.
_SAME: Final = MappingProxyType(
    {
        "mimic": "mimiccxr",
        "mimiccxrjpg": "mimiccxr",
        "nihcxr": "chestxray14",
        "nihchestxray": "chestxray14",
        "nihchestxray14": "chestxray14",
        "cxr14": "chestxray14",
        "chestxray8": "chestxray14",
        "iuxray": "openi",
        "indianauniversitychestxray": "openi",
        "quilt": "quilt1m",
        "pmcoabeta": "pmcoa",
        "rocov2": "roco",
        "biomedica24m": "biomedica",
    }
)


def dataset_key(name: str) -> str:
    """What two spellings of one data set have in common: letters and digits in lower case, known synonyms
    and versions with the same images made one.

    >>> dataset_key("MIMIC-CXR-JPG") == dataset_key("mimic_cxr")
    True
    """
    plain = _SEPARATORS.sub("", name.casefold())
    return _SAME.get(plain, plain)


def shared_datasets(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are among `others`, as spelt in `names`, sorted, each data set once."""
    wanted = {dataset_key(other) for other in others}
    shared = {dataset_key(name): name for name in names if dataset_key(name) in wanted}
    return tuple(sorted(shared.values()))


def union_names(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The names of all lists, each data set once, as it is spelt first."""
    by_key: dict[str, str] = {}
    for names in lists:
        for name in names:
            by_key.setdefault(dataset_key(name), name)
    return tuple(by_key.values())


def _not_blank(name: str) -> str:
    stripped = name.strip()
    if not dataset_key(stripped):
        msg = f"must be the name of a data set; got {name!r}"
        raise ValueError(msg)
    return stripped


DatasetName = Annotated[str, AfterValidator(_not_blank)]
