"""What the report draws of a family beside its numbers, made from the dumps, as plain values.

Exhibits hold no identity: rows of tables at most, and words of questions and answers never.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from meddistill.strict import Strict

CALIBRATION_BINS: Final = 15  # of equal width, in calibration curves and in the error computed from them


class Exhibit(Strict):
    """What every exhibit has."""

    model: str
    task: str


class RocCurve(Exhibit):
    """The curve of one class against the rest: sensitivity `tpr` over 1 - specificity `fpr`."""

    kind: Literal["roc"] = "roc"
    label: str
    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    auc: float | None


class CalibrationCurve(Exhibit):
    """Mean confidence and share of right rows in bins of confidence, `counts` rows each; empty bins out.

    `setting` says whose probabilities: "" the model's own, else after which treatment.
    """

    kind: Literal["calibration"] = "calibration"
    setting: str = ""
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    counts: tuple[int, ...]
    ece: float | None


class Confusion(Exhibit):
    """Rows of true class i that were given class j; a row with equal highest scores is divided."""

    kind: Literal["confusion"] = "confusion"
    classes: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...]


class SurvivalCurve(Exhibit):
    """Kaplan-Meier estimate of one risk group with its pointwise interval.

    `p_value` is that of the log-rank test between all groups of the model's split.
    """

    kind: Literal["survival"] = "survival"
    setting: str = ""
    group: str
    unit: str
    times: tuple[float, ...]
    survival: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    at_risk: tuple[int, ...]
    p_value: float | None


class AnsweredQuestion(Exhibit):
    """One question that a model answered: a row of the task's table, and whether the answer is right.

    Chosen by hash, right and wrong ones in turn. `answer_row` is the first row of the training table with the
    answer that was given, None where it is none of the table's.
    """

    kind: Literal["question"] = "question"
    table: str
    row: int
    right: bool
    question_type: str
    answer_table: str
    answer_row: int | None


class AttentionMap(Strict):
    """Attention on a grid of `columns` x `rows` cells, of those that hold instances of the bag.

    `cells` count row by row from 0 at the upper left. `attention` is relative: 1 where all instances of the
    bag count alike, the mean of a cell's instances. `instances` are numbers of the most attended one of each.
    """

    columns: int
    rows: int
    cells: tuple[int, ...]
    attention: tuple[float, ...]
    instances: tuple[int, ...]


class BagAttention(Exhibit):
    """Attention of a model over the instances of one bag: the highest `weights` first.

    The weights of all `instances` of the bag sum to one. `rows` count in the suite's `table`, or, where that
    is "", in a file of stored features. Bags are chosen by hash, right and wrong ones in turn. `places` is
    the map of all instances, where it is known at which places of the bag they lie.
    """

    kind: Literal["attention"] = "attention"
    table: str
    truth: str
    given: str
    rows: tuple[int, ...]
    weights: tuple[float, ...]
    instances: int
    places: AttentionMap | None = None


class MaskExample(Exhibit):
    """One image that a model outlined: a row of the task's table, and how well.

    `truth` and `given` are the masks as PNG of one bit in base64; "" unless examples may be shown. `empty`:
    the model marked nothing.
    """

    kind: Literal["mask"] = "mask"
    table: str
    row: int
    place: Literal["best", "median", "worst"]
    dice: float
    empty: bool = False
    truth: str = ""
    given: str = ""


AnyExhibit = Annotated[
    RocCurve | CalibrationCurve | Confusion | SurvivalCurve | AnsweredQuestion | BagAttention | MaskExample,
    Field(discriminator="kind"),
]
