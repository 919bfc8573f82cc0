"""The known medical teachers: how to load each, what it gives, and under what terms. Loads no torch."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal

from pydantic import Field

from meddistill.core_yaml import dump_yaml, load_yaml
from meddistill.errors import TeacherError
from meddistill.licences import LicenceTerms
from meddistill.signals import Signal
from meddistill.strict import Strict
from meddistill.teachers.config import PythonTeacher, TeacherConfig

_HUB: Final = "hf-hub:"
# How the licence and the loader's facts are known, from firm to loose.
Certainty = Literal["card", "repository", "reported", "memory"]


class CatalogueEntry(Strict):
    """One known teacher.

    `config` can stand in a recipe as it is, with the hub id replaced by a local folder where there is no
    network; for kind `python` the factory is the user's to write around the authors' code. `image_size` is
    the side of its input in pixels, `dims` the widths of its outputs,
    `context_length` its tokens a text. `licence_certainty`, `data_certainty` and `facts_certainty` say how
    firmly the licence, the pretraining data (None where they are not recorded) and the rest are known: read
    on the model's `card`, read in its `repository`, `reported` by others, or from `memory`. `gated`: the
    owner grants access. `get`: how its files are brought here, where one download is not enough. `systems`:
    the published systems that distil from it.
    """

    name: str
    config: TeacherConfig
    signals: frozenset[Signal]
    image_size: int | None = Field(default=None, gt=0)
    dims: Mapping[Signal, int]
    context_length: int | None = None
    gated: bool = False
    licence_certainty: Certainty
    data_certainty: Certainty | None = None
    facts_certainty: Certainty
    get: str = ""
    systems: tuple[str, ...] = ()
    url: str
    notes: str

    @property
    def licence(self) -> LicenceTerms:
        """Its terms."""
        return self.config.terms

    @property
    def needs_wrapper(self) -> bool:
        """Whether a factory of the user's must bring it in."""
        return isinstance(self.config, PythonTeacher)

    @property
    def hub_id(self) -> str | None:
        """Its id on the hub; None where one download does not bring it."""
        model = getattr(self.config, "model", None)
        if self.get or model is None:
            return None
        return str(model).removeprefix(_HUB)

    def how_to_get(self, folder: str) -> str:
        """What to do so that `folder` holds the model: the access gate, then the download."""
        gate = f"Accept its terms at {self.url} first (access is gated). " if self.gated else ""
        if self.hub_id is None:
            return gate + self.get.strip()
        return f"{gate}hf download {self.hub_id} --local-dir {folder}"

    def recipe_entry(self) -> str:
        """The lines that a recipe's `teachers:` block takes for it, without its id."""
        content = self.config.model_dump(mode="json", exclude_defaults=True)
        first = {name: content[name] for name in ("model", "factory") if name in content}
        ordered = {"kind": self.config.kind} | first | content
        return dump_yaml(ordered)


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """All entries by id, in the file's order."""
    text = files("meddistill.teachers").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    content = load_yaml(text)
    return MappingProxyType({key: CatalogueEntry.model_validate(value) for key, value in content.items()})


def find_entry(identifier: str) -> CatalogueEntry:
    """The entry of a known teacher; raises TeacherError with what is known otherwise."""
    known = catalogue()
    if identifier not in known:
        msg = f"a known teacher must be one of {', '.join(known)}; got {identifier!r}."
        raise TeacherError(msg)
    return known[identifier]
