"""Linear probe: logistic regression on frozen image embeddings."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.errors import ConfigError
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.config import LinearProbeConfig
from meddistill.evaluation.tasks.classification.logistic import (
    class_probabilities,
    logistic_path,
    quality,
    scaling,
)
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.classification.shots import draws, not_all_labels, shortages
from meddistill.evaluation.tasks.classification.task import Block, ProbeTask


@final
class LinearProbe(ProbeTask[LinearProbeConfig]):
    """Multinomial logistic regression by L-BFGS on unnormalised embeddings, as in CLIP (appendix A.3).

    Features are not scaled one by one. The mean of the training rows is taken off and all features are
    divided by one number, their common standard deviation: the same model as without (the intercept is not
    penalised, and C absorbs the number), but one grid of C then fits every model, and L-BFGS converges.
    C is the one with the highest balanced accuracy on validation; equal ones are told apart by the lower
    log loss. Deviation from CLIP: a fixed grid instead of a search by halves.

    A fraction f < 1 of the training patients is drawn by strata, nested (every smaller fraction is part of
    every larger one), once for each seed; metrics are averaged over seeds. So are `shots`, k images a class.
    C is chosen on the whole validation table for them too, as CLIP does: with few shots that table may hold
    more labels than the training rows, and without one no label but the shots is used.

    Temperature and thresholds of the main setting are fitted on the validation table that chose C as well,
    which leaves them a little too sure. See `ZeroShot` on what a temperature changes.
    """

    probabilities = True
    libraries = ("scikit-learn",)

    def predict(self, embeddings: Embeddings) -> ClassPredictions:
        """Class probabilities of every test row, for every fraction and seed."""
        classes, train = len(self.classes), self.parts["train"]
        features = self._features(embeddings)
        truth = {role: self.truth(part) for role, part in self.parts.items()}
        blocks = []
        labels = train.labels(self.config.label)
        for setting, seed, rows in draws(train.samples, labels, self.config, "class"):
            centre, spread = scaling(features["train"][rows])
            scaled = {role: (values - centre) / spread for role, values in features.items()}
            fit = self._fit(scaled, truth, rows)
            scores = class_probabilities(fit, scaled["test"], classes)
            blocks.append(Block(part=self.tested, scores=scores, setting=setting, seed=seed))
            if "validation" in scaled and not setting:
                known = class_probabilities(fit, scaled["validation"], classes)
                blocks.append(self._validated(known, seed=seed))
        return self._predictions(blocks)

    def check(self) -> None:
        """Raise TableError for labels that are no class, ConfigError for `positive` without two classes."""
        super().check()
        classes, positive = self.classes, self.config.positive
        if positive is not None and (positive not in classes or len(classes) != 2):
            rule = (
                f"`positive` must be one of two classes of task `{self.name}`; got {positive!r} of "
                f"{', '.join(classes)}."
            )
            raise ConfigError(self.config.subject, [rule])

    def facts(self) -> dict[str, Any]:
        """Counts of classes, and the rows that the probe learns from."""
        train = self.parts["train"]
        train_facts = {"train_n": len(train), "train_patients": len(np.unique(train.patients))}
        facts = {**super().facts(), **train_facts}
        counts = Counter(train.labels(self.config.label))
        facts["warnings"] += shortages({name: counts[name] for name in self.classes}, self.config.shots)
        facts["warnings"] += not_all_labels(self.config.fractions)
        return facts

    def _fit(self, features: Mapping[str, Floats], truth: Mapping[str, Ints], rows: Ints) -> Any:
        """The fit to these training rows with the C that is best on validation, without it `default_c`."""
        config, validated = self.config, "validation" in features
        grid = sorted(config.grid) if validated else [config.default_c]
        train, iterations = (features["train"][rows], truth["train"][rows]), config.max_iterations
        fits = logistic_path(*train, grid, max_iterations=iterations)
        if not validated:
            return next(fits)
        known, classes = truth["validation"], len(self.classes)
        return max(
            fits, key=lambda fit: quality(class_probabilities(fit, features["validation"], classes), known)
        )
