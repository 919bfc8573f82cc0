"""One run of a recipe: what its steps share, each thing loaded when it is first needed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from meddistill.data.config import TrainingTableConfig
from meddistill.data.decoded import DECODED, DecodedImages
from meddistill.data.keys import image_keys
from meddistill.data.samples import Samples, joined
from meddistill.data.text_bank import TextBank
from meddistill.data.unreadable import read_readable
from meddistill.errors import MissingWeights, TeacherError
from meddistill.evaluation.base.results import Results
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.features.availability import Availability, availability
from meddistill.features.reader import FeatureStore
from meddistill.licences import LicenceTerms, join
from meddistill.objectives.config import CAPTIONS
from meddistill.progress import NamedProgress, Progress, SilentProgress
from meddistill.recipes.banks import Banks, bank_of_captions, read_banks
from meddistill.recipes.derived import DerivedTeacher
from meddistill.recipes.frozen_models import (
    FrozenModels,
    load_baselines,
    load_teachers,
    trained_teacher,
    untrained_teacher,
)
from meddistill.recipes.load import LoadedRecipe
from meddistill.recipes.missing import missing_initial_weights
from meddistill.recipes.mistakes import naming_teacher
from meddistill.recipes.run_folder import RunFolder, digest
from meddistill.recipes.schema import Recipe
from meddistill.recipes.teacher_inputs import teacher_inputs
from meddistill.recipes.text_tower import text_is_trained
from meddistill.recipes.tokenizer import tokenizer_hash, tokenizer_of
from meddistill.students.build import BuiltStudent, start_student
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.initial.licence import initial_licence
from meddistill.students.metadata import INITIAL_WEIGHTS, Provenance, TeacherCredit
from meddistill.teachers.card import TeacherCard
from meddistill.teachers.config import RecipeTeacher
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.training.processes import Processes


class Session:
    """A recipe at work in its run folder."""

    def __init__(self, loaded: LoadedRecipe, folder: RunFolder, *, progress: Progress) -> None:
        self.loaded = loaded
        self.folder = folder
        given = loaded.recipe.given_store
        if given is not None:
            folder.features = loaded.base / given
        self._progress = progress
        # Filled by the fusion stages, in their order: what they derived, and what was left out.
        self.derived: dict[str, DerivedTeacher] = {}
        self.left_out: set[str] = set()
        self._teachers_are_trained = False
        # What the evaluation found of this student; those that lie in the folder may be of another one.
        self.results: Results | None = None

    @cached_property
    def progress(self) -> Progress:
        """How the run shows how far it is; only the main process does."""
        return self._progress if self.is_main_process else SilentProgress()

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.loaded.recipe

    @property
    def base(self) -> Path:
        """Where the recipe's relative paths start."""
        return self.loaded.base

    @cached_property
    def processes(self) -> Processes:
        """All processes of this run."""
        return Processes()

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes and prints."""
        return self.processes.is_main

    @contextmanager
    def processes_folder(self, *, shared: bool, waiting: bool = False) -> Iterator[None]:
        """Hold the run folder, `shared` with others or alone; the main process does for all of this run."""
        held = self.folder.locked(shared=shared, waiting=waiting) if self.is_main_process else nullcontext()
        with held:
            yield

    @cached_property
    def decoded(self) -> DecodedImages:
        """Which images of the recipe's tables an earlier run could decode."""
        return DecodedImages(self.folder.path / DECODED)

    @cached_property
    def samples(self) -> Samples:
        """The training table, its bad rows reported or dropped as the table's `on_error` says."""
        return self._read(self.recipe.data.train, columns=self.recipe.group_columns)

    @cached_property
    def banks(self) -> Banks:
        """The banks of `features.banks`."""
        return read_banks(self.recipe.features.banks, base=self.base)

    @cached_property
    def validation_table(self) -> Samples | None:
        """The table of `data.validation`, whole; None without one."""
        table = self.recipe.data.validation
        return None if table is None else self._read(table)

    def _read(self, table: TrainingTableConfig, *, columns: Sequence[str] = ()) -> Samples:
        """A table with the `columns` and that of the availability."""
        listed = [name for name in (self.recipe.features.availability.column,) if name is not None]
        return read_readable(
            table,
            base=self.base,
            columns=list(dict.fromkeys([*listed, *columns])),
            lists=listed,
            progress=self.progress,
            decoded=self.decoded,
        )

    @cached_property
    def validation(self) -> Samples | None:
        """The rows of `validation_table` with a caption."""
        table = self.validation_table
        return None if table is None else table.take(np.flatnonzero(table.captioned))

    @cached_property
    def validation_keys(self) -> tuple[str, ...]:
        """The content keys of the images of `validation`."""
        return () if self.validation is None else image_keys(self.validation)

    @property
    def validation_inputs(self) -> dict[str, Any]:
        """What decides the stored outputs and measures of `validation`; empty without one."""
        rows = self.validation
        return {} if rows is None else {"validation": digest([rows.table_hash, self.validation_keys])}

    @cached_property
    def stored_samples(self) -> Samples:
        """All rows that stored outputs are of: those of the training table, then those of `validation`."""
        if self.validation is None:
            return self.samples
        return joined(self.samples, self.validation, tables=("training table", "validation table"))

    @cached_property
    def suite_tables(self) -> SuiteTables | None:
        """The tables of the suite, treated alike; None without a suite."""
        suite = self.loaded.suite
        if suite is None:
            return None
        base = self.loaded.suite_base
        return SuiteTables(suite, base=base, progress=self.progress, decoded=self.decoded)

    @property
    def text_is_trained(self) -> bool:
        """Whether the student's text tower is trained, by this run or before it.

        After training, by what was there: a teacher that was left out has trained nothing.
        """
        return text_is_trained(
            self.recipe, self.samples, cards=self.cards, taken=self.built.taken, without=self.left_out
        )

    @cached_property
    def built(self) -> BuiltStudent:
        """The student as the recipe describes it, and what it took from its initial weights."""
        seed = self.recipe.stages[0].seed
        return start_student(self.recipe.student, base=self.base, seed=seed, tokenizer=self.tokenizer)

    @property
    def student(self) -> DualEncoder:
        """The student; its stages train it in place."""
        return self.built.student

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of `text.vocabulary`, trained on the training captions; None without one."""
        size = self.recipe.student.text.vocabulary
        return None if size is None else tokenizer_of(self.samples, size, folder=self.folder)

    @cached_property
    def image_keys(self) -> tuple[str, ...]:
        """The content keys of the training images; every file is read once a run."""
        return image_keys(self.samples)

    @cached_property
    def teachers(self) -> Mapping[str, FrozenTeacher]:
        """All teachers, loaded, on the device; of kind `recipe` untrained until `take_trained_teachers`.

        Raises TeacherError naming every one that cannot be loaded.
        """
        return self._ready(load_teachers(self.recipe.teachers, base=self.base, by_recipe=self.by_recipe))

    @cached_property
    def teacher_runs(self) -> Mapping[str, "Session"]:
        """The runs of the recipes that train teachers, by teacher, each in a folder inside this one."""
        return {
            name: Session(
                loaded, RunFolder(self.folder.teacher(name)), progress=NamedProgress(self.progress, name)
            )
            for name, loaded in self.loaded.teachers.items()
        }

    @property
    def by_recipe(self) -> Mapping[str, Callable[[], FrozenTeacher]]:
        """How each teacher of kind `recipe` is loaded, as far as it is now."""
        entries = {
            name: each for name, each in self.recipe.teachers.items() if isinstance(each, RecipeTeacher)
        }
        return {name: partial(self._teacher_of_recipe, name, config) for name, config in entries.items()}

    def _teacher_of_recipe(self, name: str, config: RecipeTeacher) -> FrozenTeacher:
        run = self.teacher_runs[name]
        if self._teachers_are_trained:
            return trained_teacher(name, config, run.folder.student)
        with naming_teacher(name):
            missing = missing_initial_weights(run.recipe.student, base=run.base)
            if missing:
                raise MissingWeights("\n".join(map(str, missing)))
            return untrained_teacher(name, config, run.student, run.provenance)

    def drop_teachers(self) -> None:
        """Let go of the teachers' memory; they are loaded again when they are asked for."""
        self.__dict__.pop("teachers", None)

    def take_trained_teachers(self) -> None:
        """From now on `teachers` are loaded from what their recipes have trained."""
        self._teachers_are_trained = True
        self.drop_teachers()
        self.__dict__.pop("teacher_runs", None)  # with the tables and students that they hold

    @property
    def cards(self) -> dict[str, TeacherCard]:
        """The cards of all teachers."""
        return {name: teacher.card for name, teacher in self.teachers.items()}

    @cached_property
    def baselines(self) -> Mapping[str, FrozenTeacher]:
        """What the student is compared with besides its teachers, as `teachers`."""
        settings = self.recipe.evaluate
        return self._ready(load_baselines(settings.baselines if settings else {}, base=self.base))

    def _ready(self, loaded: FrozenModels) -> Mapping[str, FrozenTeacher]:
        if loaded.refusals:
            initial = missing_initial_weights(self.recipe.student, base=self.base)
            msg = "\n".join([*loaded.refusals, *map(str, initial)])
            raise TeacherError(msg)
        return {name: model.to(self.processes.device) for name, model in loaded.models.items()}

    @cached_property
    def availability(self) -> Availability:
        """Which teachers are available for which samples; by agreement once the feature store is there."""
        rules = self.recipe.features.availability
        store = None if rules.agreement_quantile is None else FeatureStore.open(self.folder.features)
        available = availability(self.samples, self.cards, rules, store=store, keys=self.image_keys)
        if rules.restricts and len(available.kept):
            left = sum(int(mask.sum()) for mask in available.of_kept().values()) / len(available.kept)
            self.progress.say(
                f"availability: {left:.1f} of {len(self.cards)} teachers a row; "
                f"{len(self.samples) - len(available.kept):,} of {len(self.samples):,} rows left out"
            )
        return available

    @property
    def availability_inputs(self) -> dict[str, Any]:
        """What decides the availability besides the data and the modalities; empty without rules."""
        rules = self.recipe.features.availability
        if not rules.restricts:
            return {}
        found = {**rules.model_dump(mode="json"), "thresholds": dict(self.availability.thresholds)}
        if rules.column is not None:
            tables = [table for table in (self.samples, self.validation_table) if table is not None]
            found["listed"] = digest([table.columns[rules.column] for table in tables])
        return {"availability": found}

    @property
    def tokenizer_inputs(self) -> dict[str, Any]:
        """The trained tokenizer, which decides every id; empty without one."""
        return {} if self.tokenizer is None else {"tokenizer": tokenizer_hash(self.tokenizer)}

    @property
    def teacher_inputs(self) -> dict[str, Any]:
        """What in the teachers decides the features and the student: their numbers, and for which rows."""
        return teacher_inputs(self.cards)

    def bank(self, name: str) -> TextBank:
        """The bank of that name, or that of the training captions."""
        return bank_of_captions(self.samples) if name == CAPTIONS else self.banks.read[name]

    @property
    def licence_inputs(self) -> dict[str, Any]:
        """The terms of everything that the student inherits from, as plain values."""
        return {name: terms.model_dump(mode="json") for name, terms in self.licence_components.items()}

    def run_step(
        self,
        step: str,
        inputs: Mapping[str, Any],
        work: Callable[[], object],
        *,
        files: Sequence[Path] = (),
        there: bool = True,
    ) -> None:
        """Do a step's work and enter it as finished, unless its `files` are there and belong to `inputs`.

        `there`: whether what the step leaves besides these files is there.
        """
        if not self._may_skip(step, inputs, there=there):
            work()
            self.folder.finish(step, inputs, files=files)

    def _may_skip(self, step: str, inputs: Mapping[str, Any], *, there: bool) -> bool:
        """Whether a step's work is there and belongs to these inputs; shows so, or what changed."""
        state = self.folder.state(step, inputs)
        if state.done and there:
            self.progress.say(f"{step}: done already")
            return True
        if state.changed:
            self.progress.say(f"{step}: done anew, since these changed: {', '.join(state.changed)}")
        elif state.damaged:
            names = ", ".join(state.damaged)
            self.progress.say(f"{step}: done anew, since these are gone or other than written: {names}")
        return False

    @property
    def licence_components(self) -> dict[str, LicenceTerms]:
        """Everything whose terms the student inherits: teachers, initial weights, data."""
        components: dict[str, LicenceTerms] = {}
        for name, config in self.recipe.teachers.items():
            components |= self._inherited(name) if isinstance(config, RecipeTeacher) else {name: config.terms}
        initial = initial_licence(self.recipe.student, base=self.base)
        if initial is not None:
            components[INITIAL_WEIGHTS] = initial
        return {**components, **self.recipe.data.terms}

    def _inherited(self, teacher: str) -> dict[str, LicenceTerms]:
        """What a teacher of kind `recipe` inherits, part by part under its name."""
        parts = self.teacher_runs[teacher].licence_components
        return {f"{teacher}: {part}": terms for part, terms in parts.items()} or {teacher: join(())}

    @property
    def provenance(self) -> Provenance:
        """Where the student comes from."""
        return Provenance(
            name=self.recipe.name,
            text_trained=self.text_is_trained,
            teachers=tuple(map(TeacherCredit.of, self.cards.values())),
            initial_weights=initial_licence(self.recipe.student, base=self.base),
            data=self.recipe.data.terms,
        )
