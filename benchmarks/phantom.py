"""Procedural images a second on one core at 64 px."""

from benchmarks.measure import Measurement, seconds
from meddistill.data.phantom.cohort import draw_sample
from meddistill.data.phantom.config import PhantomConfig

LIMIT = 500
IMAGES = 900


def run() -> list[Measurement]:
    """All nine modalities in turn."""
    config = PhantomConfig(samples=IMAGES)

    def draw() -> None:
        for sample in range(IMAGES):
            draw_sample(config, sample)

    rate = IMAGES / min(seconds(draw) for _ in range(3))
    return [
        Measurement(
            what="phantom at 64 px, drawing",
            value=f"{rate:,.0f} images/s",
            limit=f">= {LIMIT}",
            holds=rate >= LIMIT,
        )
    ]
