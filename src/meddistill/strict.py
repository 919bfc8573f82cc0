"""Records whose keys are all known and that do not change: the base of settings and of what is written."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys are refused, and nothing changes after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StrictSettings(Strict):
    """Strict, but a number that stands where a text is meant is taken as that text."""

    model_config = ConfigDict(coerce_numbers_to_str=True)
