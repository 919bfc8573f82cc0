"""Closed-set question answering: a head on both towers chooses one of the known answers."""

import hashlib
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, final

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression

from meddistill.arrays import Flags, Floats32, Ints
from meddistill.data.keys import group_ids
from meddistill.errors import TeacherError
from meddistill.evaluation.base.device import best_device
from meddistill.evaluation.base.one_thread import one_thread
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import TunableEmbedder, normalized
from meddistill.evaluation.tasks.vqa.config import VqaClosedSetConfig
from meddistill.evaluation.tasks.vqa.inputs import FrozenInputs, Inputs, Rows, TunedInputs, rows_of
from meddistill.evaluation.tasks.vqa.predictions import VqaPredictions
from meddistill.evaluation.tasks.vqa.questions import CLOSED, OPEN, OUTSIDE, Questions, answers_by_type
from meddistill.evaluation.tasks.vqa.task import VqaTask
from meddistill.evaluation.tasks.vqa.training import TrainingSplit, answer_probabilities

NO_TRAINABLE = "no towers that can be tuned"
_TYPES = (OPEN, CLOSED)
_TOLD = (
    "protocol", "towers", "loss", "epochs", "batch_size", "learning_rate", "tower_learning_rate", "schedule",
    "weight_decay", "second_moment", "clip_norm",
)  # fmt: skip


@final
class VqaClosedSet(VqaTask[VqaClosedSetConfig]):
    """The answer with the highest probability among those of the vocabulary.

    Protocols (`VqaClosedSetConfig.protocol` lists what of them is not followed):

    - `default`: cross-entropy over all answers.
    - `m3ae` (M3AE and METER): answers of all tables, binary cross-entropy over answers times their number.
    - `mevf` (QCR on MEVF): open and closed answers are sets of their own, and a classifier of questions
      chooses the set, here a logistic regression on the model's own embeddings of the questions. An answer
      that is in both sets is one unit of the last layer, and counts as right from either. Coverage is of
      questions that are sent to the right set.

    Towers stay frozen, or a copy of them is tuned with the head. Without a validation table a share of the
    training patients chooses the epoch, drawn by hash; rows that share a patient or an image stay together.
    Fits with several seeds are averaged in their accuracies, not in their answers.
    """

    libraries = ("torch", "scikit-learn")

    def unmet_requirement(self, embeddings: Embeddings) -> str:
        """What the model lacks: a text tower, or towers that can be tuned."""
        reason, model = super().unmet_requirement(embeddings), embeddings.model
        if reason or self.config.towers == "frozen":
            return reason
        return "" if isinstance(model, TunableEmbedder) and model.tunable else NO_TRAINABLE

    def predict(self, embeddings: Embeddings) -> VqaPredictions:
        """The answers of one model, of every seed's fit."""
        rows = rows_of(self.parts, self.questions)
        split, routed = self._training_split(rows, embeddings)
        fresh, seen = self._inputs(rows, embeddings)
        seeds = range(self.config.seeds)
        label, epochs = f"{embeddings.model.name}: {self.name}", len(seeds) * self.config.epochs
        with embeddings.progress.track(label, epochs, unit="epochs") as advance:
            fitted = partial(answer_probabilities, split=split, config=self.config, advance=advance)
            scores = [fitted(fresh(), seed=seed) for seed in seeds]
        return self._predictions(scores, note="; ".join(each for each in (seen, routed) if each))

    def facts(self) -> dict[str, Any]:
        """What all such tasks say, the protocol, and the rows that teach and choose."""
        learn, choose = self._split
        facts, departures = super().facts(), self.config.departures
        if departures:
            facts["warnings"].append(
                f"not as protocol {self.config.protocol} has it: {', '.join(departures)}"
            )
        return {
            **facts,
            **{name: getattr(self.config, name) for name in _TOLD},
            "departures": list(departures),
            "train_n": len(learn),
            "epoch_chosen_on": len(choose),
        }

    @property
    def answerable(self) -> Flags:
        """Test questions whose right answer is in the vocabulary; under `mevf` in the set of their type."""
        if self.config.protocol != "mevf":
            return super().answerable
        truth = self.truth("test")
        own = self._sets_by_type()[_types(self.questions["test"])]
        return (truth != OUTSIDE) & own[np.arange(len(truth)), np.maximum(truth, 0)]

    @cached_property
    def _split(self) -> tuple[Ints, Ints]:
        """Rows that teach and rows that choose the epoch, both numbered over all tables."""
        spans = rows_of(self.parts, self.questions).spans
        train = np.array(spans["train"], dtype=np.int64)
        if "validation" in spans:
            return train, np.array(spans["validation"], dtype=np.int64)
        chosen = carved_out(self.parts["train"], self.config.validation_share)
        return train[~chosen], train[chosen]

    def _inputs(self, rows: Rows, embeddings: Embeddings) -> tuple[Callable[[], Inputs], str]:
        """What gives the inputs of a fit, and a note about them."""
        device = best_device()
        if self.config.towers == "frozen":
            frozen = FrozenInputs(embeddings, rows, device)
            return lambda: frozen, frozen.note
        model = embeddings.model
        if not isinstance(model, TunableEmbedder):
            msg = f"`towers: tuned` must have a model with trainable towers; {model.name} has {NO_TRAINABLE}."
            raise TeacherError(msg)
        towers = model.trainable()
        rasters = torch.cat([towers.rasters(samples) for samples, _ in rows.images])
        return lambda: TunedInputs(model.trainable().to(device), rows, rasters), ""

    def _training_split(self, rows: Rows, embeddings: Embeddings) -> tuple[TrainingSplit, str]:
        """What is to be learnt, and a note on how questions were routed to sets of answers."""
        learn, choose = self._split
        test = np.array(rows.spans["test"], dtype=np.int64)
        sets, note = np.ones((1, len(self.vocabulary)), dtype=bool), ""
        set_of = np.zeros(len(rows.image_of), dtype=np.int64)
        if self.config.protocol == "mevf":
            sets = self._sets_by_type()
            truth = np.concatenate([_types(self.questions[role]) for role in rows.spans])
            set_of = routed(normalized(embeddings.texts(rows.questions))[rows.question_of], truth, learn)
            share = 100 * float((set_of[test] == truth[test]).mean())
            note = f"the set of answers was the right one for {share:.1f} % of the test questions"
        targets = np.concatenate([self.truth(role) for role in rows.spans])
        split = TrainingSplit(
            learn=learn, choose=choose, test=test, targets=targets, sets=sets, set_of=set_of
        )
        return split, note

    def _sets_by_type(self) -> Flags:
        """Which answers open and closed questions of the vocabulary's tables have, [2, V]."""
        tables = [self.questions[role] for role in ("train", "validation") if role in self.questions]
        by_type = answers_by_type(self.vocabulary, tables)
        return np.stack([by_type[answer_type] for answer_type in _TYPES])


def _types(questions: Questions) -> Ints:
    """Number of the set of answers that a question's type has, [n]."""
    return np.array([_TYPES.index(each) for each in questions.answer_types], dtype=np.int64)


def carved_out(part: EvalSplit, share: float) -> Flags:
    """Rows that choose the epoch, about `share` of them, [n]; none where all rows hang together.

    Rows that share a patient or an image hang together, also over others. Such groups are taken in the order
    of a hash of their images' content while fewer than `share` of the rows are taken; one that would bring
    them above half of the rows is left.
    """
    images = group_ids(part.keys)
    patients = np.unique(part.patients, return_inverse=True)[1]
    size = int(images.max()) + 1
    links = coo_array(
        (np.ones(len(part)), (images, patients + size)), shape=(size + len(part), size + len(part))
    )
    group = connected_components(links, directed=False)[1][images]
    names = {
        number: min(part.keys[row] for row in np.flatnonzero(group == number)) for number in np.unique(group)
    }
    chosen = np.zeros(len(part), dtype=bool)
    for number in sorted(names, key=lambda each: hashlib.sha256(f"epoch {names[each]}".encode()).digest()):
        rows = group == number
        if chosen.sum() < share * len(part) and 2 * (chosen.sum() + rows.sum()) <= len(part):
            chosen |= rows
    return chosen


def routed(features: Floats32, types: Ints, learn: Ints) -> Ints:
    """Type of every row: the true one where it teaches, else that of a logistic regression of the others.

    `features` [N, d] of questions, `types` [N], `learn` the rows that teach.
    """
    if len(np.unique(types[learn])) < 2:
        return np.full_like(types, types[learn[0]])
    centre = features[learn].mean(axis=0)
    scaled = (features - centre) / (features[learn].std() or 1.0)
    with one_thread():
        predicted: Ints = LogisticRegression(max_iter=1000).fit(scaled[learn], types[learn]).predict(scaled)
    predicted[learn] = types[learn]
    return predicted
