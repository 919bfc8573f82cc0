"""What the benchmark of intervals measures can be computed: its predictions are those of today's code."""

import numpy as np
import pytest
from benchmarks.bootstrap import _classes, _labels

from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.predictions import Predictions


@pytest.mark.parametrize("predictions", [_classes(), _labels()], ids=["classes", "labels"])
def test_the_measured_metrics_are_defined(predictions: Predictions) -> None:
    scores = predictions.metrics(Resampler(BootstrapConfig(resamples=20)))
    (main,) = [score for score in scores if score.main]
    assert main.n == 5000
    assert np.isfinite(main.replicates).all()
