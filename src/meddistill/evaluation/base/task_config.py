"""What the configs of all tasks have; loads no torch."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field, field_validator

from meddistill.data.datasets import DatasetName
from meddistill.strict import StrictSettings

Values = TypeVar("Values", bound=Collection[Any])

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Where = dict[str, str | list[str]]
_ROLES: Final = ("table", "train", "test", "validation")


def distinct(values: Values, name: str) -> Values:
    """The `values` of a key that must not hold one twice. Raises ValueError where it does."""
    if len(set(values)) != len(values):
        msg = f"`{name}` must differ from one another; got {list(values)}."
        raise ValueError(msg)
    return values


class GroupConfig(StrictSettings):
    """How a column makes groups of patients: by its values, or by bands of its numbers."""

    bands: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    """Bounds of the bands of a column of numbers, upwards: `[18, 65]` makes "below 18", "18 to <65" and "65
    and above". Without bounds every value is a group.
    """

    @field_validator("bands")
    @classmethod
    def _upwards(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if sorted(set(value)) != list(value):
            msg = f"`bands` must go upwards, each bound once; got {list(value)}."
            raise ValueError(msg)
        return value


def _by_name(value: object) -> object:
    """`[sex, {age: {bands: [18]}}]` as `{sex: {}, age: {bands: [18]}}`."""
    if not isinstance(value, list):
        return value
    named: dict[object, object] = {}
    for each in value:
        named.update(each if isinstance(each, dict) else {each: {}})
    return named


Groups = Annotated[dict[str, GroupConfig], BeforeValidator(_by_name)]


class TaskConfig(StrictSettings):
    """What all tasks have: a name, the rows that count, and whether the suite's mean counts the task."""

    name: Name
    """Names the task in tables and its folder of predictions."""
    where: Where = Field(default={})
    """Column → value(s): the rows of every table of the task that count."""
    include_in_mean: bool = True
    """Whether the suite's mean counts the task."""
    dataset: tuple[DatasetName, ...] = ()
    """The public data set(s) that the images come from, a name or several. Scores of models that were
    pretrained on one of them, by themselves or through a teacher, are marked in the report.
    """

    train_overlap: Literal["refuse", "report"] = "refuse"
    """Tested images, and inside a recipe patients, that a student learnt from are refused, or counted in a
    warning; what a student knows of images without the task's labels is still more than it knows of new ones.
    """
    groups: Groups | None = None
    """Columns of the tested table that part its patients: `[sex, site]`, or `age: {bands: [18, 65]}`. The
    main metric is given for every group, with the worst one and the gap. `modality` is that of the table.
    Without this key the suite's groups are taken.
    """

    @field_validator("dataset", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def subject(self) -> str:
        """What messages call the task."""
        return f"task {self.name}"

    def tables(self) -> Mapping[str, str]:
        """Role → table, of those that are named; the role is the name of the config's field."""
        named = {role: getattr(self, role, None) for role in _ROLES}
        return {role: table for role, table in named.items() if table is not None}

    def tested_role(self) -> str:
        """The role of the rows that are tested."""
        roles = self.tables()
        return "test" if "test" in roles else next(iter(roles))

    def tested_table(self) -> str:
        """The table whose rows are tested."""
        return self.tables()[self.tested_role()]

    @property
    def allows_shared(self) -> bool:
        """Whether splits that share images or patients are evaluated all the same."""
        return False

    def columns(self) -> frozenset[str]:
        """Columns that the task reads from its tables, besides those that the table's config names."""
        return frozenset((*self.own_columns(), *self.where))

    def images(self) -> frozenset[str]:
        """Columns of images beside the table's own, such as label maps."""
        return frozenset()

    def own_columns(self) -> tuple[str, ...]:
        """Those of the columns that its kind names, without the ones of `where`."""
        return ()
