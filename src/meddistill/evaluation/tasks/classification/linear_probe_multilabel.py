"""Linear probe of several labels: one logistic regression each."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from meddistill.arrays import Floats, Ints
from meddistill.evaluation.base.bootstrap import mean_of_defined
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.label_metrics import AUC, UNKNOWN, label_metrics
from meddistill.evaluation.tasks.classification.label_predictions import LabelPredictions
from meddistill.evaluation.tasks.classification.logistic import logistic_path, scaling
from meddistill.evaluation.tasks.classification.multilabel import MultilabelTask
from meddistill.evaluation.tasks.classification.multilabel_config import LinearProbeMultilabelConfig
from meddistill.evaluation.tasks.classification.shots import draws, not_all_labels, one_row_a_label, shortages
from meddistill.evaluation.tasks.classification.task import Block

_ByRole = dict[str, Floats]

_LEAST = 1e-15


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Probabilities of one C on the test and validation rows, and how good it is."""

    test: Floats
    validation: Floats | None
    score: tuple[float, float]


@final
class LinearProbeMultilabel(MultilabelTask[LinearProbeMultilabelConfig]):
    """Binary logistic regression for each label on the rows where it is known; features as in `LinearProbe`.

    All labels share one C: the one with the highest macro AUC on validation, equal ones told apart by the
    lower log loss. A label whose training rows are all positive or all negative gets their share as its
    probability everywhere.

    Fractions and shots are drawn as in `LinearProbe`, a row standing once for each of its labels and once as
    one of those that have none. Several labels have no settled rule for shots; here k rows of each label and
    k rows without any are drawn, and their union is fitted on: a row counts for all its labels, so that a
    label has k positive rows at least and its negative ones are those of the others.
    """

    libraries = ("scikit-learn",)
    needs_text = False
    probabilities = True

    def predict(self, embeddings: Embeddings) -> LabelPredictions:
        """Probability of every label for every test row, for every fraction, number of shots and seed."""
        features = self._features(embeddings)
        truth = self.truth(self.parts["train"])
        blocks = []
        for setting, seed, rows in self._draws(truth):
            best = self._fit({**features, "train": features["train"][rows]}, truth[rows])
            blocks.append(Block(part=self.tested, scores=best.test, setting=setting, seed=seed))
            if best.validation is not None and not setting:
                blocks.append(self._validated(best.validation, seed=seed))
        return self._predictions(blocks)

    def facts(self) -> dict[str, Any]:
        """Counts of labels, and the rows that the probe learns from."""
        facts = super().facts()
        train = self.parts["train"]
        truth = self.truth(train)
        one = [
            label
            for column, label in enumerate(self.config.names())
            if len(np.unique(truth[truth[:, column] != UNKNOWN, column])) < 2
        ]
        if one:
            facts["warnings"].append(f"nothing to learn of {', '.join(one)}: training rows are all alike")
        counts = dict(zip(self.config.names(), (truth == 1).sum(axis=0).tolist(), strict=True))
        there = {label: count for label, count in counts.items() if count}
        facts["warnings"] += shortages(there, self.config.shots) + not_all_labels(self.config.fractions)
        return {**facts, "train_n": len(train), "train_patients": len(np.unique(train.patients))}

    def _draws(self, truth: Ints) -> Iterator[tuple[str, int, Ints]]:
        """As `draws` of the training table, a row standing once for each of its labels."""
        single, labels = one_row_a_label(truth, self.config.names())
        samples = self.parts["train"].samples.take(single)
        for setting, seed, drawn in draws(samples, labels, self.config, "label"):
            yield setting, seed, np.unique(single[drawn])

    def _fit(self, features: _ByRole, truth: Ints) -> _Fit:
        """The best C on the training rows with `truth`."""
        centre, spread = scaling(features["train"])
        scaled = {role: (values - centre) / spread for role, values in features.items()}
        validated = "validation" in self.parts
        candidates = sorted(self.config.grid) if validated else [self.config.default_c]
        columns = [self._path(scaled, own, candidates) for own in truth.T]
        fits = [self._joined([column[place] for column in columns]) for place in range(len(candidates))]
        return max(fits, key=lambda each: each.score)

    def _path(self, scaled: _ByRole, truth: Ints, candidates: list[float]) -> list[_ByRole]:
        """Probabilities of one label on the rows that are not trained on, for every C."""
        known = truth != UNKNOWN
        others = {role: values for role, values in scaled.items() if role != "train"}
        if len(np.unique(truth[known])) < 2:
            share = float(truth[known].mean()) if known.any() else 0.5
            return [{role: np.full(len(values), share) for role, values in others.items()}] * len(candidates)
        iterations = self.config.max_iterations
        fits = logistic_path(scaled["train"][known], truth[known], candidates, max_iterations=iterations)
        return [{role: fit.predict_proba(values)[:, 1] for role, values in others.items()} for fit in fits]

    def _joined(self, columns: list[_ByRole]) -> _Fit:
        stacked = {role: np.stack([each[role] for each in columns], axis=1) for role in columns[0]}
        validation = stacked.get("validation")
        score = (
            (0.0, 0.0)
            if validation is None
            else _auc_and_likelihood(self.truth(self.parts["validation"]), validation)
        )
        return _Fit(test=stacked["test"], validation=validation, score=score)


def _auc_and_likelihood(truth: Ints, scores: Floats) -> tuple[float, float]:
    """Macro AUC (0 where no label is defined) and mean log likelihood of the known cells."""
    ones, rows = np.ones((1, len(truth)), dtype=np.float32), np.arange(len(truth))
    macro = float(mean_of_defined(label_metrics(truth, scores, ones, rows)[AUC])[0])
    known = truth != UNKNOWN
    right = np.where(truth == 1, scores, 1 - scores)[known]
    return (macro if np.isfinite(macro) else 0.0, float(np.log(np.maximum(right, _LEAST)).mean()))
