"""Several processes, on several machines, that share the work in one folder.

Each worker is known by a presence: a file of its name that it touches every few seconds. What it takes (a
shard, the folder's lock) is a claim: a file that holds its name and that one worker alone can create. A
worker is gone when its process is, which is seen at once on the same machine, or when its presence was not
touched for a lease; then others take over what it claimed.

Claims are made by `link`, which is atomic on network file systems too; locks of the operating system are not
used. Ages are differences between times that the file system itself wrote: machines need not agree on one.
"""

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Final, Self

from meddistill.features.files import storing
from meddistill.features.identity import own_name, runs_here

WORKERS: Final = ".workers"
LEASE: Final = 120.0
POLL: Final = 0.2
_BEATS: Final = 6  # touches in a lease
_LOCK: Final = "lock"
_PRESENCE: Final = "worker-"
_DRAFT: Final = "draft-"
_BROKEN: Final = "broken-"
_NAMED: Final = (_PRESENCE, _DRAFT, _BROKEN)
_LOCK_POLL: Final = 0.02
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_NUMBERS: Final = count()
# What the presence of an admitted worker holds.
_SHARING, _EXCLUSIVE = "together", "alone"


class Workers:
    """This worker among those at work in a folder. Make it with `Workers.join`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / WORKERS
        self._name = f"{own_name()}-{next(_NUMBERS)}"

    @classmethod
    @contextmanager
    def join(cls, folder: Path) -> Iterator[Self]:
        """Be at work in `folder` until the block ends; then nothing of this worker is left there."""
        workers = cls(folder)
        workers._arrive()
        stop = threading.Event()
        beating = threading.Thread(
            target=workers._beat, args=(stop,), name="meddistill-presence", daemon=True
        )
        beating.start()
        try:
            yield workers
        finally:
            stop.set()
            beating.join()
            workers._leave()

    def admit(self, *, alone: bool) -> bool:
        """Enter the folder, `alone` or beside others that are not; False where it is taken."""
        with self.lock():
            self.sweep()
            inside = [path.read_text() for path in self._presences() if not self._is(path)]
            if _EXCLUSIVE in inside or (alone and any(inside)):
                return False
            self._presence.write_text(_EXCLUSIVE if alone else _SHARING)
        return True

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for a moment; waits for its holder, and takes it from one that is gone."""
        while not self._create(_LOCK):
            holder = self._owner(_LOCK)
            if holder is not None and self._is_left(_LOCK, holder):
                self._break_lock(holder)
            else:
                time.sleep(_LOCK_POLL)
        try:
            yield
        finally:
            self.release(_LOCK)

    def take(self, part: str) -> bool:
        """Claim a part of the work; False while another worker has it."""
        if self._create(part):
            return True
        owner = self._owner(part)
        if owner is None or not self._is_left(part, owner):
            return False
        with self.lock():
            if self._owner(part) != owner:
                return False
            with storing(self._folder):
                self._draft().replace(self._folder / part)
        return True

    def release(self, part: str) -> None:
        """Give up a claim, if it is still this worker's."""
        if self._owner(part) == self._name:
            (self._folder / part).unlink(missing_ok=True)

    def _arrive(self) -> None:
        with storing(self._folder):
            while True:
                self._folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # the last worker before has just removed the folder
                    self._presence.touch()
                    return

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(LEASE / _BEATS):
            with suppress(OSError):
                os.utime(self._presence)

    def _leave(self) -> None:
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                if not path.name.startswith(_PRESENCE):
                    self.release(path.name)
            self._presence.unlink(missing_ok=True)
            self._folder.rmdir()  # refused while others are in it

    @property
    def _presence(self) -> Path:
        return self._folder / f"{_PRESENCE}{self._name}"

    def _presences(self) -> list[Path]:
        return list(self._folder.glob(f"{_PRESENCE}*"))

    def _is(self, presence: Path) -> bool:
        return presence.name == self._presence.name

    def sweep(self) -> None:
        """Remove what workers that are gone left here; under the lock."""
        for path in list(self._folder.iterdir()):
            owner = path.name.partition("-")[2] if path.name.startswith(_NAMED) else self._owner(path.name)
            if owner is not None and self._is_left(path.name, owner):
                path.unlink(missing_ok=True)

    def _create(self, part: str) -> bool:
        with storing(self._folder):
            draft = self._draft()
            try:
                os.link(draft, self._folder / part)
            except FileExistsError:
                # A network file system may have made the link and lost the answer.
                return self._owner(part) == self._name
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return self._create_exclusively(part)
            finally:
                draft.unlink(missing_ok=True)
        return True

    def _create_exclusively(self, part: str) -> bool:
        """Where there are no hard links; a claim may then stand for a moment without a name."""
        try:
            with (self._folder / part).open("x") as handle:
                handle.write(self._name)
        except FileExistsError:
            return False
        return True

    def _draft(self) -> Path:
        draft = self._folder / f"{_DRAFT}{self._name}"
        draft.write_text(self._name)
        return draft

    def _owner(self, part: str) -> str | None:
        try:
            return (self._folder / part).read_text()
        except FileNotFoundError:
            return None

    def _is_left(self, part: str, owner: str) -> bool:
        """Whether the maker of a file here is gone. Of one without a name the file's own age tells."""
        here = runs_here(owner) if owner else None
        if here is not None:
            return not here
        now = _touched(self._presence)
        then = _touched(self._folder / (f"{_PRESENCE}{owner}" if owner else part))
        return then is None or (now is not None and now - then > LEASE)

    def _break_lock(self, holder: str) -> None:
        """Take the lock away from `holder`, and put it back if it was another's by then."""
        aside = self._folder / f"{_BROKEN}{self._name}"
        with suppress(FileNotFoundError):
            (self._folder / _LOCK).rename(aside)
            if aside.read_text() != holder:
                with suppress(OSError):
                    os.link(aside, self._folder / _LOCK)
            aside.unlink()


def _touched(path: Path) -> float | None:
    """When a file was touched last. Opened first: a network file system then asks its server."""
    try:
        with path.open("rb") as handle:
            return os.fstat(handle.fileno()).st_mtime
    except FileNotFoundError:
        return None
