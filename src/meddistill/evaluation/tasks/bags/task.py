"""One label for a bag of images, learnt on frozen embeddings."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, final

import numpy as np

from meddistill.arrays import Floats32, Ints
from meddistill.evaluation.base.lazily import Lazily
from meddistill.evaluation.base.task import Task
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import Advance
from meddistill.evaluation.tasks.bags.attention import attend, fit_attention, no_progress
from meddistill.evaluation.tasks.bags.bags import Bags, bags_of
from meddistill.evaluation.tasks.bags.config import BagClassificationConfig, Pooling
from meddistill.evaluation.tasks.bags.labelled import BagScores, LabelledBags, scale_of
from meddistill.evaluation.tasks.bags.places import Instances, table_places
from meddistill.evaluation.tasks.bags.pooled import pooled_scores
from meddistill.evaluation.tasks.bags.predictions import BagPredictions
from meddistill.evaluation.tasks.bags.slide_features import SlideFeatures, read_features
from meddistill.evaluation.tasks.bags.stored import check_width, file_facts, other_inputs, stored_files
from meddistill.evaluation.tasks.classification.classes import class_facts, class_numbers, training_classes
from meddistill.evaluation.tasks.classification.metrics import MAIN
from meddistill.progress import SilentProgress

Features = Mapping[str, tuple[Floats32, ...]]


@final
class BagClassification(Task[BagClassificationConfig, BagPredictions]):
    """Embeddings of a bag's images → one vector → one of several classes.

    Multiple-instance learning on frozen features, as of slides (Ilse et al., 2018): gated attention
    (`attention.py`), or the mean or maximum of the embeddings with logistic regression (`pooled.py`).
    Embeddings are taken as the model gives them; every feature is standardised over the training instances.
    A prediction's modality and groups are those that all rows of its bag state, "" where they differ.
    """

    libraries = ("scikit-learn",)
    beside = frozenset({"stored"})
    needs_text = False
    main = MAIN

    @cached_property
    def bags(self) -> Mapping[str, Bags]:
        """Role → its bags. Raises TableError where labels or patients of a bag disagree."""
        config = self.config
        return {role: bags_of(part, bag=config.bag, label=config.label) for role, part in self.parts.items()}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Those of the config, or of the training table. Raises TableError for fewer than two in training."""
        train, config = self.bags["train"], self.config
        known = training_classes(train.part, train.labels, column=config.label, task=self.name)
        return tuple(config.classes) or known

    @cached_property
    def places(self) -> Ints | None:
        """Corners [n, 2] of the tested rows, None where no columns are named. Raises TableError."""
        return None if self.config.place is None else table_places(self.tested, self.config.place)

    @cached_property
    def unit_ids(self) -> Ints:
        """The bag of every tested row."""
        units = np.zeros(len(self.tested), dtype=np.int64)
        for number, places in enumerate(self.bags["test"].instances):
            units[places] = number
        return units

    def predict(self, embeddings: Embeddings) -> BagPredictions:
        """Class probabilities of every tested bag, by every way of pooling and seed."""
        features: dict[str, tuple[Floats32, ...]] = {}
        for role, bags in self.bags.items():
            images = embeddings.images(bags.part.samples, bags.part.keys)
            features[role] = tuple(images[places] for places in bags.instances)
        rows = np.array(self.tested.samples.rows, dtype=np.int64)
        own = self.bags["test"].instances
        where = Instances(
            table=self.tested.table,
            numbers=tuple(rows[places] for places in own),
            places=None if self.places is None else tuple(self.places[places] for places in own),
        )
        config = self.config
        progress = embeddings.progress if "attention" in config.pooling else SilentProgress()
        label, epochs = f"{embeddings.model.name}: {self.name}", config.seeds * config.epochs
        with progress.track(label, epochs, unit="epochs") as advance:
            return self._fit_poolings(features, where, advance)

    def baselines(self) -> Mapping[str, BagPredictions]:
        """What the stored features of each folder of `stored` say of the same bags."""
        return Lazily({name: partial(self._of_stored, name) for name in self.config.stored})

    def _of_stored(self, name: str) -> BagPredictions:
        read = {role: self._stored(name, bags) for role, bags in self.bags.items()}
        features = {role: tuple(each.features for each in found) for role, found in read.items()}
        check_width(name, (each.shape[1] for part in features.values() for each in part))
        places = [each.coordinates for each in read["test"] if each.coordinates is not None]
        where = Instances(
            table="",
            numbers=tuple(np.arange(1, len(each) + 1) for each in features["test"]),
            places=tuple(places) if len(places) == len(features["test"]) else None,
        )
        return self._fit_poolings(features, where)

    def of_baseline(self, name: str) -> Sequence[str]:
        """The name, and size and time of every file of stored features."""
        return (name, *file_facts(path for bags in self.bags.values() for path in self._files(name, bags)))

    def combine(
        self,
        members: Sequence[Embeddings],  # noqa: ARG002
        predictions: Sequence[BagPredictions],
    ) -> BagPredictions:
        """The means of the members' class probabilities and of their attention."""
        scores = np.mean([each.scores for each in predictions], axis=0)
        lines = zip(*(each.attention for each in predictions), strict=True)
        attention = tuple(np.asarray(np.mean(line, axis=0), dtype=np.float32) for line in lines)
        first = predictions[0]
        mean = BagScores(probabilities=scores, attention=attention)
        where = Instances(table=first.table, numbers=first.instances, places=first.places)
        return self._predictions(mean, first.settings, first.seeds, where)

    def check(self) -> None:
        """Raise TableError for bags that disagree in themselves, unknown labels and places, absent files."""
        _ = self.places
        for bags in self.bags.values():
            self._truth(bags)
            for name in self.config.stored:
                self._files(name, bags)

    def facts(self) -> dict[str, Any]:
        """Bags and patients of each class among the tested ones, and the sizes of bags."""
        tested, train = self.bags["test"], self.bags["train"]
        facts = class_facts(tested.labels, self.tested.patients[tested.first], self.classes)
        facts["warnings"] += other_inputs(self.config.stored, pictures=len(self.tested), bags=len(tested))
        return {
            **facts,
            "bags": len(tested),
            "instances": len(self.tested),
            "pooling": self.config.pooling[0],
            "median_instances": float(np.median([len(each) for each in tested.instances])),
            "train_bags": len(train),
            "train_patients": len(np.unique(train.part.patients)),
        }

    def _files(self, name: str, bags: Bags) -> list[Path]:
        """The stored features of every bag. Raises TableError with the rows of bags that have none."""
        rows = [bags.part.samples.rows[place] for place in bags.first]
        return stored_files(bags.part, name, self.config.stored[name], bags=bags.names, rows=rows)

    def _stored(self, name: str, bags: Bags) -> tuple[SlideFeatures, ...]:
        return tuple(read_features(path) for path in self._files(name, bags))

    def _fit_poolings(
        self, features: Features, where: Instances, advance: Advance = no_progress
    ) -> BagPredictions:
        scale = scale_of(features["train"])
        bags = {
            role: LabelledBags(features=scale(own), truth=self._truth(self.bags[role]))
            for role, own in features.items()
        }
        scores: list[BagScores] = []
        settings: list[str] = []
        seeds: list[int] = []
        for place, pooling in enumerate(self.config.pooling):
            for seed, fit in enumerate(self._fits(bags, pooling, advance)):
                scores.append(fit)
                settings += [f"{pooling} pooling" if place else ""] * len(where.numbers)
                seeds += [seed] * len(where.numbers)
        together = BagScores(
            probabilities=np.concatenate([each.probabilities for each in scores]),
            attention=tuple(weights for each in scores for weights in each.attention),
        )
        times = len(scores)
        repeated = Instances(
            table=where.table,
            numbers=where.numbers * times,
            places=None if where.places is None else where.places * times,
        )
        return self._predictions(together, settings, np.array(seeds, dtype=np.int64), repeated)

    def _fits(
        self, bags: Mapping[str, LabelledBags], pooling: Pooling, advance: Advance
    ) -> Iterator[BagScores]:
        train, validation, config = bags["train"], bags.get("validation"), self.config
        classes, test = len(self.classes), bags["test"].features
        if pooling != "attention":
            yield pooled_scores(train, validation, test, pooling=pooling, classes=classes, config=config)
            return
        for seed in range(config.seeds):
            model = fit_attention(
                train, validation, classes=classes, seed=seed, config=config, advance=advance
            )
            yield attend(model, test)

    def _predictions(
        self, scores: BagScores, settings: Sequence[str], seeds: Ints, where: Instances
    ) -> BagPredictions:
        """`found` of the tested bags, once or several times one after the other."""
        bags = self.bags["test"]
        repeats = len(scores.probabilities) // len(bags)
        identity = self._identity(bags.first, times=repeats)
        # A patient is named by no file of an evaluation, even where ids may be: the first row's id stands.
        if self.config.bag is not None:
            identity["samples"] = self.names(bags.names) * repeats
        return BagPredictions(
            classes=self.classes,
            truth=np.tile(self._truth(bags), repeats),
            scores=np.asarray(scores.probabilities, dtype=np.float64),
            **identity,
            settings=tuple(settings),
            seeds=seeds,
            ordinal=self.config.ordinal,
            probabilities=True,
            table=where.table,
            instances=where.numbers,
            attention=scores.attention,
            places=where.places,
        )

    def _truth(self, bags: Bags) -> Ints:
        """Class number of every bag. Raises TableError where a label is none of the classes."""
        column = self.config.label
        return class_numbers(bags.part, bags.labels, self.classes, column=column, task=self.name, of="bags")
