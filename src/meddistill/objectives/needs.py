"""What an objective declares that it needs: the base of all options. Loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveFloat

from meddistill.signals import Tower
from meddistill.strict import Strict

BOTH: frozenset[Tower] = frozenset({"image", "text"})
Need = Literal["bank", "statistics", "logit_scale", "mixed_teachers"]
ByTeacher = PositiveFloat | Mapping[str, PositiveFloat]


@dataclass(frozen=True, kw_only=True)
class HiddenPatches:
    """A further pass of the student over its images, with the share `ratio` of their square patches hidden.

    `patch_size`: the side of a patch in pixels of the student's input. One patch at least stays.
    """

    patch_size: int
    ratio: float


class ObjectiveOptions(Strict):
    """Base of all options, and what an objective declares that it needs.

    `requires` names the towers that a teacher must have for this objective. A tower that a teacher has
    beyond those is used too. `trains` names the student's towers that it compares, where the teacher has
    them. `is_distance`: it measures a distance in the space where student and teacher meet, so that its
    weight means something else in every space; contrastive objectives compare angles by a softmax, and those
    in the student's own space never see the projection. `compares_rows`: it holds the rows of a batch
    against one another, so that a teacher which knows what belongs together would give the answer away.
    `own_layers`: it has layers, made for the student's and the teacher's dims. `of_method` names the keys
    that are for the method and not for the objective, `by_teacher` those that may have a value a teacher.
    `remedies` says for each need how the recipe does without it.
    """

    requires: ClassVar[frozenset[Tower]]
    trains: ClassVar[frozenset[Tower]] = BOTH
    is_distance: ClassVar[bool] = False
    compares_rows: ClassVar[bool] = True
    own_layers: ClassVar[bool] = False
    of_method: ClassVar[frozenset[str]] = frozenset()
    by_teacher: ClassVar[frozenset[str]] = frozenset()
    remedies: ClassVar[Mapping[Need, str]] = {}

    weight: PositiveFloat = 1.0
    """The factor before the objective in the sum."""

    @property
    def needs_captions(self) -> bool:
        """Whether rows without a caption have no part in it."""
        return True

    @property
    def needs_bank(self) -> str | None:
        """The bank of texts whose features of a teacher it is given, if any; its key `bank` names it."""
        return None

    @property
    def needs_space_dim(self) -> bool:
        """Whether it keeps vectors of the space where it compares, and so must know its `dim`."""
        return False

    @property
    def needs_logit_scale(self) -> bool:
        """Whether every teacher must have one."""
        return False

    @property
    def needs_statistics(self) -> bool:
        """Whether it is told to compare what takes the teachers' means and covariances."""
        return False

    @property
    def prefers_statistics(self) -> bool:
        """Whether it compares that where there are statistics, not being told what to compare."""
        return False

    @property
    def mixes_teachers(self) -> bool:
        """Whether the teachers drawn for the rows of a batch stand in one softmax: `mixed_rows`."""
        return False

    def remedy(self, need: Need) -> str:
        """How the recipe does without a need, for a message."""
        return self.remedies.get(need, "leave the objective out")

    @property
    def passes(self) -> Mapping[str, HiddenPatches]:
        """Name → a further pass of the student that it looks at."""
        return {}

    def resolved(self, *, statistics: bool) -> Self:  # noqa: ARG002
        """With what the recipe leaves open filled in, where there are `statistics` or none."""
        return self

    @property
    def given_by_teacher(self) -> dict[str, Mapping[str, Any]]:
        """Key → teacher → value, for each key of `by_teacher` that has several."""
        given = {key: getattr(self, key) for key in sorted(self.by_teacher)}
        return {key: values for key, values in given.items() if isinstance(values, Mapping)}

    def of_teacher(self, teacher: str) -> Self:
        """With this teacher's values where there is one for each."""
        own = {key: values[teacher] for key, values in self.given_by_teacher.items()}
        return self.model_copy(update=own) if own else self
