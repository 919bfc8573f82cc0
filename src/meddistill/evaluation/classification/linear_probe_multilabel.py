"""Linear probe of several labels: one logistic regression each."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from meddistill.evaluation.classification.label_metrics import AUC, UNKNOWN, label_metrics
from meddistill.evaluation.classification.label_predictions import LabelPredictions
from meddistill.evaluation.classification.linear_probe import Matrix, logistic, scaling
from meddistill.evaluation.classification.multilabel import MultilabelTask
from meddistill.evaluation.classification.multilabel_config import LinearProbeMultilabelConfig
from meddistill.evaluation.embeddings import Embeddings
from meddistill.evaluation.statistics.bootstrap import mean_of_defined
from meddistill.evaluation.tables import Part

_ByRole = dict[str, Matrix]

_LEAST = 1e-15


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """Probabilities of one C on the test and validation rows, and how good it is."""

    test: Matrix
    validation: Matrix | None
    score: tuple[float, float]


@final
class LinearProbeMultilabel(MultilabelTask[LinearProbeMultilabelConfig]):
    """Binary logistic regression for each label on the rows where it is known; features as in `LinearProbe`.

    All labels share one C: the one with the highest macro AUC on validation, equal ones told apart by the
    lower log loss. A label whose training rows are all positive or all negative gets their share as its
    probability everywhere.
    """

    libraries = ("scikit-learn",)
    needs_text = False

    @property
    def tested(self) -> Part:
        """The test rows."""
        return self.parts["test"]

    def predict(self, embeddings: Embeddings) -> LabelPredictions:
        """Probability of every label for every test row."""
        roles = [role for role in ("train", "validation", "test") if role in self.parts]
        features = {role: self._features(embeddings, self.parts[role]) for role in roles}
        centre, spread = scaling(features["train"])
        scaled = {role: (values - centre) / spread for role, values in features.items()}
        judged = "validation" in self.parts
        candidates = sorted(self.config.grid) if judged else [self.config.default_c]
        columns = [self._path(scaled, column, candidates) for column in range(len(self.config.names()))]
        fits = [self._joined([column[place] for column in columns]) for place in range(len(candidates))]
        best = max(fits, key=lambda each: each.score)
        return self._predictions(best.test, best.validation)

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
        return {**facts, "train_n": len(train), "train_patients": len(np.unique(train.patients))}

    def _features(self, embeddings: Embeddings, part: Part) -> Matrix:
        return embeddings.images(part.samples, part.keys).astype(np.float64)

    def _path(self, scaled: _ByRole, column: int, candidates: list[float]) -> list[_ByRole]:
        """Probabilities of one label on the rows that are not trained on, for every C."""
        truth = self.truth(self.parts["train"])[:, column]
        known = truth != UNKNOWN
        others = {role: values for role, values in scaled.items() if role != "train"}
        if len(np.unique(truth[known])) < 2:
            share = float(truth[known].mean()) if known.any() else 0.5
            return [{role: np.full(len(values), share) for role, values in others.items()}] * len(candidates)
        found, start = [], None
        for c in candidates:
            model = logistic(
                scaled["train"][known],
                truth[known],
                c=c,
                max_iterations=self.config.max_iterations,
                start=start,
            )
            start = (model.coef_, model.intercept_)
            found.append({role: model.predict_proba(values)[:, 1] for role, values in others.items()})
        return found

    def _joined(self, columns: list[_ByRole]) -> _Fit:
        stacked = {role: np.stack([each[role] for each in columns], axis=1) for role in columns[0]}
        validation = stacked.get("validation")
        score = (0.0, 0.0) if validation is None else _judge(self.truth(self.parts["validation"]), validation)
        return _Fit(test=stacked["test"], validation=validation, score=score)


def _judge(truth: NDArray[np.int64], scores: Matrix) -> tuple[float, float]:
    """Macro AUC (0 where no label is defined) and mean log likelihood of the known cells."""
    ones, rows = np.ones((1, len(truth)), dtype=np.float32), np.arange(len(truth))
    macro = float(mean_of_defined(label_metrics(truth, scores, ones, rows)[AUC])[0])
    known = truth != UNKNOWN
    right = np.where(truth == 1, scores, 1 - scores)[known]
    return (macro if np.isfinite(macro) else 0.0, float(np.log(np.maximum(right, _LEAST)).mean()))
