"""How intervals are made; loads no torch."""

from pydantic import Field

from meddistill.strict import StrictSettings


class BootstrapConfig(StrictSettings):
    """How intervals are made: patients are drawn `resamples` times; percentiles at `level`."""

    resamples: int = Field(default=1000, ge=20, le=100_000)
    """Times that patients are drawn with replacement."""
    seed: int = Field(default=42, ge=0, lt=2**63)
    """Of the draws."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Of the percentile interval."""
