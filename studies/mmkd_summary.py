"""The study's tables: every arm and teacher, the leads of MMKD-CLIP, the best teacher per task."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from meddistill.evaluation.base.bootstrap import Resampler, estimate
from meddistill.evaluation.base.predictions import Predictions
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.prediction_files import read_predictions
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.tasks.classification.predictions import ClassPredictions
from meddistill.evaluation.tasks.retrieval.metrics import chance_of
from studies.mmkd_arms import LONGER, TEACHERS
from studies.tables import table

Replicates = NDArray[np.float64]
STUDENT, BEST = "mmkd", "best teacher per task"
ENSEMBLES = ("teacher_mean", BEST)


class Scores:
    """Replicates [tasks, 1 + resamples] of every model by seed; entry 0 is the estimate."""

    def __init__(self, out: Path, seeds: Sequence[int]) -> None:
        self.suite = SuiteConfig.model_validate(yaml.safe_load((out / "suite.yaml").read_text()))
        self.tasks = [task for task in self.suite.tasks if task.include_in_mean]
        self._resampler = Resampler(self.suite.bootstrap)
        self._found: dict[str, dict[int, Replicates]] = {}
        self._chance: dict[str, float] = {}
        for seed in seeds:
            folder = out / f"mmkd_{seed}" / "evaluation" / "predictions"
            for path in sorted((folder / self.tasks[0].name).glob("*.parquet")):
                name = STUDENT if path.stem == "student" else path.stem.partition("-")[0]
                self._found.setdefault(name, {})[seed] = self._replicates(folder, path.name)
        draws = np.random.default_rng(self.suite.bootstrap.seed)
        self._seeds = seeds
        self._drawn = draws.integers(len(seeds), size=(len(seeds), 1 + self.suite.bootstrap.resamples))

    @property
    def chance(self) -> Replicates:
        """What guessing gives, by task: [tasks]."""
        return np.array([self._chance[task.name] for task in self.tasks])

    @property
    def models(self) -> list[str]:
        """Every model, teachers and teacher mean among them."""
        return list(self._found)

    def seeds_of(self, model: str) -> int:
        """Seeds that the model was trained with, as far as they are judged."""
        return len(self._found[model])

    def add_best(self, choice: Mapping[str, str]) -> None:
        """Enter the teacher that `choice` names for every task as one model."""
        self._found[BEST] = {
            seed: np.stack(
                [self._found[choice[task.name]][seed][index] for index, task in enumerate(self.tasks)]
            )
            for seed in self._seeds
        }

    def tasks_of(self, model: str) -> Replicates:
        """Mean over seeds, by task: [tasks]."""
        return np.mean([found[:, 0] for found in self._found[model].values()], axis=0)

    def mean(self, model: str, *, like: str | None = None) -> Replicates:
        """Mean over tasks and seeds. A resample draws patients, and seeds too, the same for all models.

        `like` names another model: the mean then takes the seeds that both have.
        """
        chosen = self._found[model].keys() & self._found[like or model].keys()
        means = [self._found[model][seed].mean(axis=0) for seed in self._seeds if seed in chosen]
        if len(means) < len(self._seeds):
            return np.mean(means, axis=0)
        drawn = np.take_along_axis(np.stack(means), self._drawn, axis=0).mean(axis=0)
        drawn[0] = np.mean([each[0] for each in means])
        return drawn

    def interval(self, replicates: Replicates, style: str = "{:.3f}") -> str:
        """The estimate and its interval."""
        found = estimate(replicates, patients=2, level=self.suite.bootstrap.level)
        return f"{style.format(found.value)} ({style.format(found.low)} to {style.format(found.high)})"

    def _replicates(self, folder: Path, file: str) -> Replicates:
        rows = []
        for task in self.tasks:
            dump = read_predictions(folder / task.name / file)
            if dump is None:
                msg = f"`{folder}` must hold {file} for {task.name}; it does not. Evaluate again."
                raise FileNotFoundError(msg)
            self._chance[task.name] = _chance(dump)
            rows += [score.replicates for score in dump.metrics(self._resampler) if score.main]
        return np.stack(rows)


def summarize(scores: Scores, validation: Results, *, seen: frozenset[str]) -> str:
    """The tables as Markdown, once for each number of steps, the largest first."""
    choice = {task.name: _best_on(validation, task.name) for task in scores.tasks}
    scores.add_best(choice)
    parts = []
    for student, arms in _budgets(scores):
        parts += [
            _overview(scores, student, [*arms, *TEACHERS, *ENSEMBLES]),
            _retention(scores, student),
            _by_task(scores, [*arms, *ENSEMBLES], choice, seen),
        ]
    return "\n\n".join(parts)


def _budgets(scores: Scores) -> list[tuple[str, list[str]]]:
    """MMKD-CLIP and the arms that took as many steps, for each number of steps."""
    arms = [name for name in scores.models if name not in (*TEACHERS, *ENSEMBLES)]
    budgets = [
        (prefix + STUDENT, [name for name in arms if name.startswith(prefix)]) for prefix in reversed(LONGER)
    ]
    short = [name for name in arms if not name.startswith(tuple(LONGER))]
    return [(name, each) for name, each in (*budgets, (STUDENT, short)) if name in each]


def _overview(scores: Scores, student: str, models: Sequence[str]) -> str:
    rows = []
    for model in sorted(models, key=lambda name: -scores.tasks_of(name).mean()):
        lead = scores.mean(student, like=model) - scores.mean(model, like=student)
        role = "teacher" if model in TEACHERS else ""
        words = "" if model == student else scores.interval(lead, "{:+.3f}")
        count = "" if role or model in ENSEMBLES else str(scores.seeds_of(model))
        rows.append([model, role, count, scores.interval(scores.mean(model)), words])
    return table(["model", "role", "seeds", "mean over tasks", f"{student} minus it"], rows)


def _retention(scores: Scores, student: str) -> str:
    chance = scores.chance.mean()
    lines = [f"Chance is {chance:.3f} on the mean over tasks. Of what is above chance, {student} has:"]
    for model in (BEST, *TEACHERS):
        share = (scores.mean(student) - chance) / (scores.mean(model, like=student) - chance)
        lines.append(f"- {scores.interval(share, '{:.2f}')} of {model}")
    return "\n".join(lines)


def _by_task(scores: Scores, models: Sequence[str], choice: Mapping[str, str], seen: frozenset[str]) -> str:
    shown = [name for name in models if not name.startswith("without_")]
    rows, chance = [], scores.chance
    for index, task in enumerate(scores.tasks):
        label = "seen-class" if task.kind == "zero_shot" and task.name in seen else task.kind
        cells = [f"{scores.tasks_of(model)[index]:.3f}" for model in shown]
        rows.append([task.name, label, f"{chance[index]:.3f}", *cells, choice[task.name]])
    return table(["task", "kind", "chance", *shown, "best on validation"], rows)


def _best_on(validation: Results, task: str) -> str:
    return max(TEACHERS, key=lambda name: getattr(validation.main(name, task), "value", None) or 0.0)


def _chance(dump: Predictions) -> float:
    """Of the main metric: balanced accuracy, or mean recall over both directions."""
    if isinstance(dump, ClassPredictions):
        return 1 / len(dump.classes)
    rates = []
    for direction, gallery in enumerate((dump.texts, dump.images)):
        chosen = dump.directions == direction
        rates.append(np.average(chance_of(dump.positives[chosen], gallery), weights=dump.shares[chosen]))
    return float(np.mean(rates))
