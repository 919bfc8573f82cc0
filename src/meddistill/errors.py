"""Every exception of MedDistill.

MedDistillError
├── UserError               the user's mistake or the user's data: exit code 2, one message, no traceback
│   ├── ConfigError         recipes, suites and options; holds every mistake found, not the first
│   ├── TableError          tables of samples; holds every bad row found
│   ├── ImageError          a file that is no image, a damaged one, one that is too large
│   ├── TeacherError        a teacher that cannot be loaded or lacks a signal
│   │   └── MissingWeights  its files are not on this disk, and no hub has given them
│   ├── LicenceError        the licence policy of the run forbids what was asked
│   ├── StoreError          a feature store that is damaged or was made from something else
│   ├── CheckpointError     a checkpoint that is damaged or belongs to another run
│   ├── BundleError         a bundle that is damaged or incomplete
│   └── MissingExtra        a library of an extra is not installed
├── NonFiniteError          a loss, a gradient or a feature is not finite; names the samples
└── ParityError             an exported model does not give the numbers of the trained one

Messages have one form: `name` must <rule>; got <value>. <What to do.>
"""

import difflib
from collections.abc import Iterable, Sequence


class MedDistillError(Exception):
    """Base of all errors that MedDistill raises itself."""


class UserError(MedDistillError):
    """Something that the user can mend: input, options, files. Exit code 2."""


MOST_LINES = 20


class _Collected(UserError):
    """Several mistakes of one thing, reported together; the message lists the first twenty of them.

    `remedy` is what helps against all of them at once, and ends the message.
    """

    def __init__(self, subject: str, mistakes: Sequence[str], *, remedy: str | None = None) -> None:
        self.subject = subject
        self.mistakes = tuple(mistakes)
        self.remedy = remedy
        lines = [f"{subject}: {_count(len(self.mistakes))}", *self.mistakes[:MOST_LINES]]
        if len(self.mistakes) > MOST_LINES:
            lines.append(f"and {len(self.mistakes) - MOST_LINES:,} more")
        if remedy is not None:
            lines.append(remedy)
        super().__init__("\n  ".join(lines))

    @classmethod
    def raise_any(cls, subject: str, mistakes: Sequence[str], *, remedy: str | None = None) -> None:
        """Raise the error with these mistakes, unless there are none."""
        if mistakes:
            raise cls(subject, mistakes, remedy=remedy)


def _count(number: int) -> str:
    return f"{number} mistake{'' if number == 1 else 's'}"


class ConfigError(_Collected):
    """A recipe, suite or option that breaks its schema. `mistakes` has one line for each."""


class TableError(_Collected):
    """A table of samples with bad rows. `mistakes` has one line for each, with its row number."""


class ImageError(UserError):
    """A file that cannot be turned into pixels."""


class TeacherError(UserError):
    """A teacher that cannot be loaded, or that lacks what the recipe asks of it."""


class MissingWeights(TeacherError):
    """A model's files are not on this disk, and no hub has given them."""


class LicenceError(UserError):
    """The licences involved do not allow this under the run's `licence_policy`."""


class StoreError(UserError):
    """A feature store that is damaged, incomplete, or made from other weights or data."""


class CheckpointError(UserError):
    """A checkpoint that is damaged or belongs to another run."""


class BundleError(UserError):
    """A bundle that is damaged, incomplete or of another kind than asked."""


class MissingExtra(UserError):
    """A library that belongs to an optional installation is absent."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f'`{library}` is not installed. Install it with: pip install "meddistill[{extra}]"')


class NonFiniteError(MedDistillError):
    """A number that must be finite is not; the message names where and which samples."""


class ParityError(MedDistillError):
    """An exported model gives other numbers than the trained one; nothing was exported."""


def one_line(error: BaseException, *, longest: int = 300) -> str:
    """An exception's own words on one line, cut to `longest`; its class where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[:longest] + "…"


def first_line(error: BaseException) -> str:
    """The first line of an exception's own words; its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(word: str, known: Iterable[str], *, most: int = 1) -> str:
    """A question, with a blank before it, after the closest known words; empty where none is close."""
    close = difflib.get_close_matches(word, list(known), n=most)
    return f" Did you mean {' or '.join(f'`{each}`' for each in close)}?" if close else ""
