"""What every task is: the rows it is evaluated on, and predictions from embeddings."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Final, Generic, TypeVar

import numpy as np

from meddistill.arrays import Ints
from meddistill.evaluation.base.grouping import agreed, check_groups, group_columns
from meddistill.evaluation.base.predictions import Predictions, SampleNames
from meddistill.evaluation.base.split import EvalSplit
from meddistill.evaluation.base.task_config import TaskConfig
from meddistill.evaluation.models.cache import Embeddings

# Part of every fingerprint: raise it when the same task and model give other predictions than before.
RULES_VERSION: Final = 5
# Of the config: what no prediction depends on.
_NOT_PREDICTED: Final = ("include_in_mean", "dataset", "train_overlap", "groups")

Config = TypeVar("Config", bound=TaskConfig)
Kind = TypeVar("Kind", bound=Predictions)


class Task(ABC, Generic[Config, Kind]):
    """A task over one suite's tables. Sees embeddings only; yields predictions only."""

    needs_text: ClassVar[bool]
    main: ClassVar[str]
    # Distributions that fit something for the predictions, or compute a metric; told with every number.
    libraries: ClassVar[tuple[str, ...]] = ()
    # Fields of the config that change no model's predictions.
    beside: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: Config, parts: Mapping[str, EvalSplit], names: SampleNames) -> None:
        self.config = config
        self.parts = parts
        self.names = names

    @property
    def name(self) -> str:
        """The task's name in the suite."""
        return self.config.name

    @property
    def tested(self) -> EvalSplit:
        """The rows that the task is evaluated on."""
        return self.parts[self.config.tested_role()]

    @property
    def unit_ids(self) -> Ints | None:
        """The number of every tested row's patient or bag, where these get one prediction; else None."""
        return None

    @abstractmethod
    def predict(self, embeddings: Embeddings) -> Kind:
        """What one model says."""

    @abstractmethod
    def combine(self, members: Sequence[Embeddings], predictions: Sequence[Kind]) -> Kind:
        """What several models say together; `predictions` are those of the `members`, in their order."""

    def baselines(self) -> Mapping[str, Kind]:
        """What is compared with the models on this task alone, by name: no model, or one without images."""
        return {}

    def of_baseline(self, name: str) -> Sequence[str]:
        """What predictions of a baseline depend on besides `digest`: its name, files that it alone reads."""
        return (name,)

    def unmet_requirement(self, embeddings: Embeddings) -> str:
        """What the model lacks for the task ("no text tower"); empty where it can be evaluated."""
        return embeddings.no_text_reason if self.needs_text else ""

    def grouped(self, predictions: Kind) -> Kind:
        """The predictions with the groups of their rows, found by the rows' numbers in the tested table."""
        place = {row: position for position, row in enumerate(self.tested.samples.rows)}
        positions = [place.get(row, -1) for row in predictions.rows.tolist()]
        return self._at(predictions, positions)

    def _at(self, predictions: Kind, positions: Sequence[int]) -> Kind:
        groups = group_columns(self.tested, self.config.groups or {}, positions, self.unit_ids)
        return replace(predictions, groups=groups)

    def _identity(self, places: Ints | None = None, *, times: int = 1) -> dict[str, Any]:
        """Rows, samples, patients and modalities of predictions for the tested rows, those at `places` alone.

        One after the other so many `times`. A modality is the one that all rows of a unit state.
        """
        samples, units = self.tested.samples, self.unit_ids
        modalities = samples.modalities if units is None else agreed(samples.modalities, units)
        chosen = np.arange(len(self.tested)) if places is None else places
        return {
            "rows": np.tile(np.array(samples.rows, dtype=np.int64)[chosen], times),
            "samples": self.names([samples.ids[place] for place in chosen]) * times,
            "patients": np.tile(self.tested.patients[chosen], times),
            "modalities": tuple(modalities[place] for place in chosen) * times,
        }

    def check_groups(self) -> None:
        """Raise TableError for rows whose groups cannot be told."""
        check_groups(self.tested, self.config.groups or {})

    def check(self) -> None:
        """Raise TableError for rows that the task cannot work with; looks at no image."""

    def facts(self) -> dict[str, Any]:
        """What a reader of the results has to know of the task besides its config."""
        return {}

    def digest(self) -> str:
        """Hash of everything but the model that the dumped predictions depend on."""
        return _hash([*self._content, self.names(("",)), self.names.examples])

    def sha256(self) -> str:
        """Hash of settings, rows and images: where two are alike, their results may be compared."""
        return _hash(self._content)

    @cached_property
    def _content(self) -> list[Any]:
        columns = sorted(self.config.columns())
        return [
            RULES_VERSION,
            self.config.model_dump(mode="json", exclude={*_NOT_PREDICTED, *self.beside}),
            {role: part.digest(columns, sorted(self.config.images())) for role, part in self.parts.items()},
        ]


def _hash(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
