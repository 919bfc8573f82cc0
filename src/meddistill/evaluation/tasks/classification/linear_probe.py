"""Linear probe: logistic regression on frozen image embeddings."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from meddistill.data.splits import label_fraction
from meddistill.errors import ConfigError
from meddistill.evaluation.arrays import Floats, Ints
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.tasks.classification.config import LinearProbeConfig
from meddistill.evaluation.tasks.classification.metrics import MAIN, class_metrics
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.classification.shots import few_shot, shortages, shots_setting
from meddistill.evaluation.tasks.classification.task import Block, ProbeTask


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    features: Floats
    truth: Ints


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
        classes = self.classes
        train = self._labelled(embeddings, "train", classes)
        validation = self._labelled(embeddings, "validation", classes) if "validation" in self.parts else None
        test = self._features(embeddings, self.tested)
        blocks = []
        for setting, seed, rows in self._draws(train):
            chosen = _Labelled(features=train.features[rows], truth=train.truth[rows])
            fitted = _fit(chosen, validation, self.config)
            scores = _probabilities(fitted, test, len(classes))
            blocks.append(Block(part=self.tested, scores=scores, setting=setting, seed=seed))
            if validation is not None and not setting:
                known = _probabilities(fitted, validation.features, len(classes))
                blocks.append(self._validated(known, seed=seed))
        return self._predictions(classes, blocks)

    def check(self) -> None:
        """Raise TableError for labels that are no class, ConfigError for `positive` without two classes."""
        super().check()
        classes, positive = self.classes, self.config.positive
        if positive is not None and (positive not in classes or len(classes) != 2):
            rule = (
                f"`positive` must be one of two classes of task `{self.name}`; got {positive!r} of "
                f"{', '.join(classes)}."
            )
            subject = f"task {self.name}"
            raise ConfigError(subject, [rule])

    def facts(self) -> dict[str, Any]:
        """Counts of classes, and the rows that the probe learns from."""
        train = self.parts["train"]
        learnt = {"train_n": len(train), "train_patients": len(np.unique(train.patients))}
        facts = {**super().facts(), **learnt}
        counts = Counter(train.labels(self.config.label))
        facts["warnings"] += shortages({name: counts[name] for name in self.classes}, self.config.shots)
        facts["warnings"] += not_all_labels(self.config.fractions)
        return facts

    def _features(self, embeddings: Embeddings, part: EvalSplit) -> Floats:
        return embeddings.images(part.samples, part.keys).astype(np.float64)

    def _labelled(self, embeddings: Embeddings, role: str, classes: Sequence[str]) -> _Labelled:
        part = self.parts[role]
        truth = self.truth(part, classes, self.config.label)
        return _Labelled(features=self._features(embeddings, part), truth=truth)

    def _draws(self, train: _Labelled) -> Iterator[tuple[str, int, Ints]]:
        """Words for the fraction ("" for the largest), seed, rows of the training table."""
        part = self.parts["train"]
        labels = part.labels(self.config.label)
        for fraction in self.config.fractions:
            setting = "" if fraction == self.config.fractions[0] else fraction_setting(fraction)
            if fraction == 1:
                yield setting, 0, np.arange(len(train.truth))
                continue
            for seed in range(self.config.seeds):
                yield setting, seed, label_fraction(part.samples, labels, fraction, seed)
        for shots in self.config.shots:
            for seed in range(self.config.seeds):
                yield shots_setting(shots), seed, few_shot(part.samples, labels, shots, seed)


def not_all_labels(fractions: Sequence[float]) -> list[str]:
    """A warning where the main numbers are of a fraction."""
    largest = max(fractions)
    return [] if largest == 1 else [f"the main numbers are of {fraction_setting(largest)}"]


def fraction_setting(fraction: float) -> str:
    """What the results call a share of the training patients."""
    return f"{100 * fraction:g} % of training patients"


def _fit(train: _Labelled, validation: _Labelled | None, config: LinearProbeConfig) -> "_Fitted":
    centre, spread = scaling(train.features)
    scaled = (train.features - centre) / spread
    candidates = [config.default_c] if validation is None else sorted(config.grid)
    best: tuple[tuple[float, float], _Fitted] | None = None
    start: tuple[Floats, Floats] | None = None
    for c in candidates:
        model = logistic(scaled, train.truth, c=c, max_iterations=config.max_iterations, start=start)
        start = (model.coef_, model.intercept_)
        fitted = _Fitted(model=model, centre=centre, spread=spread)
        score = (0.0, 0.0) if validation is None else _judge(fitted, validation)
        if best is None or score > best[0]:
            best = (score, fitted)
    if best is None:
        msg = "the grid of C must not be empty"
        raise RuntimeError(msg)
    return best[1]


def scaling(features: Floats) -> tuple[Floats, float]:
    """Mean of each feature and the common standard deviation of all."""
    centre = features.mean(axis=0)
    return centre, float(np.sqrt(np.square(features - centre).mean())) or 1.0


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    model: Any
    centre: Floats
    spread: float


def logistic(
    features: Floats, truth: Ints, *, c: float, max_iterations: int, start: tuple[Floats, Floats] | None
) -> Any:
    """One fit, begun at the last one of the grid: the same optimum in a fraction of the iterations."""
    model = LogisticRegression(C=c, max_iter=max_iterations, warm_start=start is not None)
    if start is not None:
        model.coef_, model.intercept_ = start[0].copy(), start[1].copy()
        model.classes_ = np.unique(truth)
    # One thread: L-BFGS takes many small products, between which threads wait for one another. Two are
    # no faster on a free machine and up to fifty times slower on a busy one.
    with warnings.catch_warnings(), one_thread():
        # The last C of the grid may not converge on separable data; validation decides whether it is good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, truth)
    return model


def _probabilities(fitted: _Fitted, features: Floats, classes: int) -> Floats:
    """[n, C]; classes that a small fraction of the training rows lacks have zero."""
    scores = np.zeros((len(features), classes))
    scores[:, fitted.model.classes_] = fitted.model.predict_proba((features - fitted.centre) / fitted.spread)
    return scores


def _judge(fitted: _Fitted, validation: _Labelled) -> tuple[float, float]:
    classes = int(max(validation.truth.max(), fitted.model.classes_.max())) + 1
    scores = _probabilities(fitted, validation.features, classes)
    rows = np.arange(len(validation.truth))
    ones = np.ones((1, len(rows)), dtype=np.float32)
    balanced = class_metrics(validation.truth, scores, ones, rows)[MAIN][0]
    log_likelihood = np.log(np.maximum(scores[rows, validation.truth], 1e-15)).mean()
    return float(balanced), float(log_likelihood)
