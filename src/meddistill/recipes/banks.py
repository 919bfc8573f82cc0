"""The banks of texts that a recipe's objectives compare with: read, and compared with what is asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meddistill.data.config import TextTable
from meddistill.data.samples import Samples
from meddistill.data.text_bank import TextBank, read_text_bank
from meddistill.errors import StoreError, TableError, did_you_mean
from meddistill.features.importing.cards import IMPORTED
from meddistill.features.reader import FeatureStore
from meddistill.objectives.config import CAPTIONS
from meddistill.recipes.schema import AnyStage, Recipe


@dataclass(frozen=True, kw_only=True)
class Banks:
    """The recipe's banks by name, without those that cannot be read, of which `mistakes` tells."""

    read: Mapping[str, TextBank]
    mistakes: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of all banks."""
        return tuple(text for bank in self.read.values() for text in bank.texts)

    @property
    def keys(self) -> frozenset[str]:
        """The content keys of all texts."""
        return frozenset(key for bank in self.read.values() for key in bank.keys)

    @property
    def fingerprints(self) -> dict[str, str]:
        """What decides the features of each bank."""
        return {name: bank.fingerprint for name, bank in self.read.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each bank with repeated texts."""
        return tuple(
            f"bank {name}: {len(bank.texts):,} different texts; left out, since a model sees no difference "
            f"from earlier ones: {bank.repeated:,}"
            for name, bank in self.read.items()
            if bank.repeated
        )


def read_banks(places: Mapping[str, str | TextTable], *, base: Path) -> Banks:
    """Read the files of `features.banks`; relative paths start at `base`."""
    read: dict[str, TextBank] = {}
    mistakes: list[str] = []
    for name, place in places.items():
        try:
            read[name] = read_text_bank(place, base=base)
        except TableError as error:
            mistakes += [f"`features.banks.{name}`: {error.subject}: {line}" for line in error.mistakes]
    return Banks(read=read, mistakes=tuple(mistakes))


def unused_banks(recipe: Recipe) -> tuple[str, ...]:
    """A line for each bank that no objective names; its texts are read for other recipes with the store."""
    return tuple(
        f"bank {name}: no objective of a stage names it; its texts are read into the store all the same"
        for name in recipe.features.banks
        if name not in recipe.banks
    )


def unmet_by_banks(recipe: Recipe, banks: Banks, *, base: Path) -> list[str]:
    """One line for everything in which banks and objectives do not fit, and for what a given store lacks.

    With the mistakes of their files.
    """
    lines = [*banks.mistakes]
    names = {*recipe.features.banks, CAPTIONS}
    for stage in recipe.stages:
        lines += [
            f"stage {stage.name}: `bank` must name one of `features.banks`, or {CAPTIONS}; got {bank}."
            f"{did_you_mean(bank, names) or ' Add it there.'}"
            for bank in stage.banks
            if bank not in names
        ]
        if recipe.features.source == "online":
            lines += [
                f"stage {stage.name}: `objectives.{name}` must compare with no bank for teachers that "
                "run online; the features of a bank are read from a feature store; got the bank "
                f"{options.needs_bank}. Use `source: stored`, or {options.remedy('bank')}."
                for name, options in stage.chosen.items()
                if options.needs_bank is not None
            ]
    return lines + _absent(recipe, banks, base=base)


def _absent(recipe: Recipe, banks: Banks, *, base: Path) -> list[str]:
    """One line for every bank and teacher of a given store that lacks features of its texts."""
    if recipe.given_store is None:
        return []
    try:
        store = FeatureStore.open(base / recipe.given_store)
        return [
            f"teacher `{teacher}` must have its features of every text of the bank {name} in "
            f"`{recipe.given_store}`; {absent:,} of {len(banks.read[name].keys):,} are not there. "
            f"{_remedy(store, teacher)}"
            for teacher, name in _pairs_in_use(recipe)
            if name in banks.read and (absent := _missing_rows(store, teacher, banks.read[name]))
        ]
    except StoreError:
        return []  # told with the teachers, which cannot be loaded from it


def _remedy(store: FeatureStore, teacher: str) -> str:
    if store.card(teacher).library == IMPORTED:
        return "It was imported, and nobody can ask it: leave the bank, or the teacher, out."
    return (
        "Run `meddistill features add` with the recipe that made the store and this bank in it, or leave the "
        "bank out."
    )


def _pairs_in_use(recipe: Recipe) -> list[tuple[str, str]]:
    pairs = [
        (teacher, bank)
        for stage in recipe.stages
        for bank in stage.banks
        for teacher in stage.weighted_teachers(recipe.teachers)
    ]
    return list(dict.fromkeys(pairs))


def _missing_rows(store: FeatureStore, teacher: str, bank: TextBank) -> int:
    """How many texts of a bank a teacher that reads has no features of; 0 for one that does not read."""
    if "text" not in store.outputs(teacher):
        return 0
    rows, present = store.text_rows(bank.keys), store.output(teacher, "text").rows
    return int(((rows < 0) | (rows >= present)).sum())


def without_bank_of_captions(stage: AnyStage, samples: Samples) -> list[str]:
    """One line for a stage that compares with the training captions, of which there are fewer than two."""
    if CAPTIONS not in stage.banks:
        return []
    different = len(bank_of_captions(samples).texts)
    if different > 1:
        return []
    return [
        f"the bank {CAPTIONS} must have two different captions at least; the training table has {different}. "
        "Name the column of captions in `data.train.text`, or another bank."
    ]


def bank_of_captions(samples: Samples) -> TextBank:
    """The different captions of the training table."""
    return TextBank.of(tuple(dict.fromkeys(samples.captions)))
