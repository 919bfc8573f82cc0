"""The folder of a run: where each step puts its work, which steps are done, and one run at a time."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meddistill.errors import ConfigError, UserError
from meddistill.features.files import MANIFEST
from meddistill.features.workers import POLL, Workers
from meddistill.file_kinds import unreadable, why_not_json
from meddistill.files import sealed, sha256_of, unsealed, write_whole
from meddistill.recipes.yaml_file import read_yaml
from meddistill.tree_difference import ABSENT, TreeDifference, tree_differences

STEPS_FILE = "steps.json"
_HASH: Final = re.compile("[0-9a-f]{16,}")


@dataclass(frozen=True, kw_only=True)
class StepState:
    """Whether a step's work is there and still belongs to the inputs that are asked for now.

    `changed` names the inputs that differ from those of the finished work, `damaged` the files that are not
    as the step left them; both are empty if nothing was finished.
    """

    done: bool
    changed: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None = None


def store_of(place: Path) -> Path:
    """The feature store at `place`, which is one or a run folder that has one."""
    inside = RunFolder(place).features
    return inside if (inside / MANIFEST).is_file() else place


class RunFolder:
    """One run's folder. Steps are entered in `steps.json` after their files are complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.features = path / "features"
        self.tokenizer = path / "tokenizer.json"
        self.student = path / "student"
        self.evaluation = path / "evaluation"
        self.bundle = path / "bundle"
        self.report = path / "report.html"
        self.audit = path / "audit.json"

    def stage(self, name: str) -> Path:
        """The folder of one training stage."""
        return self.path / "stages" / name

    def teacher(self, name: str) -> Path:
        """The folder of the run that trains a teacher of kind `recipe`."""
        return self.path / "teachers" / name

    def of_another(self, name: str) -> list[str]:
        """Why the recipe of that `name` must not run here: the folder is of one with another name."""
        try:
            theirs = read_yaml(self.recipe).get("name", name)
        except ConfigError:  # none, or no recipe
            return []
        if theirs == name:
            return []
        return [
            f"`--out` must not be the run folder of another recipe; got {self.path}, which is that of "
            f"{theirs}, for {name}. Choose another folder, or, if it is the same run renamed, "
            f"--set name={theirs}."
        ]

    def state(self, step: str, inputs: Mapping[str, Any]) -> StepState:
        """What is known of `step` for these `inputs` (plain values; large ones as hashes)."""
        entry = self._read().get(step)
        if entry is None:
            return StepState(done=False)
        changed = tuple(map(_change, tree_differences(entry["inputs"], json.loads(_canonical(inputs)))))
        damaged = tuple(name for name, sha256 in entry["files"].items() if not self._holds(name, sha256))
        return StepState(done=not changed + damaged, changed=changed, damaged=damaged, facts=entry["facts"])

    def finish(
        self, step: str, inputs: Mapping[str, Any], *, files: Sequence[Path] = (), **facts: Any
    ) -> None:
        """Enter `step` as done; call it when all of its files are in place.

        The step counts as done while those of `files`, paths in this folder, have the bytes they have now.
        """
        steps = self._read()
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        plain = json.loads(_canonical(inputs))
        written = {path.relative_to(self.path).as_posix(): sha256_of(path) for path in files}
        entry = {"inputs": plain, "files": written, "facts": {**facts, "finished": finished}}
        self._write({**steps, step: sealed(entry, name=step)})

    def forget(self, step: str) -> None:
        """Take `step` out of the finished ones, so that it runs again."""
        steps = self._read()
        if steps.pop(step, None) is not None:
            self._write(steps)

    def results(self) -> list[tuple[str, Path]]:
        """What a user may want to open, with a name for each; only what is there and of the student there."""
        trained = self.facts("student").get("finished", "")
        named = [
            ("features", None, self.features),
            ("audit", None, self.audit),
            ("student", "student", self.student),
            ("results", "evaluate", self.evaluation / "results.json"),
            ("bundle", "export", self.bundle),
            ("report", "report", self.report),
        ]
        return [
            (name, path)
            for name, step, path in named
            if path.exists() and (step is None or self.facts(step).get("finished", "") >= trained > "")
        ]

    def facts(self, step: str) -> Mapping[str, Any]:
        """The facts that a finished step left; empty if it is not finished."""
        entry = self._read().get(step)
        return entry["facts"] if entry else {}

    @contextmanager
    def locked(self, *, shared: bool = False, waiting: bool = False) -> Iterator[None]:
        """Hold the folder for one run, or, `shared`, for any number of extractions into its one store.

        Raises UserError where others at work there do not allow it, unless `waiting` until they have gone,
        or where nobody can write there.
        """
        with writing_in(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with Workers.join(self.path) as workers:
            while not workers.admit(alone=not shared):
                if waiting:
                    time.sleep(POLL)
                    continue
                msg = (
                    f"`{self.path}` must be used by one run at a time; another one is at work there. "
                    "Only `meddistill extract` may be started several times. Wait for it, or choose another "
                    "folder with --out."
                )
                raise UserError(msg)
            yield

    def _holds(self, name: str, sha256: str) -> bool:
        path = self.path / name
        return path.is_file() and sha256_of(path) == sha256

    def _write(self, steps: Mapping[str, Any]) -> None:
        write_whole(self.path / STEPS_FILE, json.dumps(steps, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        """The finished steps. An entry that is not as it was written is none: its step is done again."""
        try:
            content = json.loads((self.path / STEPS_FILE).read_bytes())
            return {step: entry for step, entry in content.items() if unsealed(entry, name=step) is not None}
        except FileNotFoundError:
            return {}
        except OSError as refusal:
            msg = f"`{self.path / STEPS_FILE}` must be readable; got {unreadable(refusal)}"
            raise UserError(msg) from None
        except (ValueError, AttributeError) as error:
            got = why_not_json(self.path / STEPS_FILE, error).what
            msg = (
                f"`{self.path / STEPS_FILE}` must be JSON as this program wrote it; got {got}. "
                "Delete it: finished files are kept and checked again."
            )
            raise UserError(msg) from None


@contextmanager
def writing_in(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals to make or use `folder` into UserError."""
    try:
        yield
    except OSError as error:
        msg = (
            f"`{folder}` must be a folder that can be written to; got: {error.strerror or error}. "
            "Choose another with --out."
        )
        raise UserError(msg) from None


def digest(content: Any) -> str:
    """Sixteen hex digits that change whenever `content` (plain values) does."""
    return hashlib.sha256(_canonical(content).encode()).hexdigest()[:16]


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, default=str)


def _change(difference: TreeDifference) -> str:
    old, new = (each if each is ABSENT else _short(each) for each in (difference.old, difference.new))
    shown = TreeDifference(difference.place, old, new)
    return shown.describe(" ({old} → {new})", added=" (new)", removed=" (gone)")


def _short(value: Any) -> str:
    """Hashes by their beginning."""
    text = str(value)
    return f"{text[:12]}…" if _HASH.fullmatch(text) else text
