"""Several processes make one store at once; it is the one that a single process makes."""

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import several_extractions
from several_extractions import CAPTIONS, IMAGES, Gated

from forked import Forked
from meddistill.features import workers as module
from meddistill.features.extract import extract
from meddistill.features.identity import own_name, runs_here
from meddistill.features.verify import verify
from meddistill.features.workers import WORKERS, Workers
from toy_features import SMALL, ToyImages, toy_samples, toy_teacher, tree

PART = "images-00000000"
ELSEWHERE = "0123456789abcdef-7-7-0"  # a worker of another machine


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "images"
    toy_samples(folder, IMAGES, captions=CAPTIONS)
    return folder


@pytest.fixture(scope="module")
def whole(images: Path) -> dict[str, bytes]:
    """The store of one process."""
    teachers = {"a": toy_teacher("a", kind=Gated), "b": toy_teacher("b", kind=ToyImages, seed=1)}
    samples = toy_samples(images, IMAGES, captions=CAPTIONS, there=True)
    extract(images.parent / "whole", samples, teachers, SMALL)
    return tree(images.parent / "whole")


def ended(process: Forked) -> None:
    code, _, told = process.ended()
    assert code == 0, told


def until(true) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError


def claims(store: Path) -> set[str]:
    """Who has claimed shards of images."""
    found = set()
    for path in store.glob(f"{WORKERS}/images-*"):
        try:
            found.add(path.read_text())
        except FileNotFoundError:
            continue
    return found


def test_three_processes_one_killed(images: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    store = tmp_path / "store"
    gate = tmp_path / "gate"
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Forked(several_extractions.main, images, store, gate)) for _ in range(3)
        ]
        until(lambda: len(claims(store)) == 3)  # each of them is in the middle of something
        processes[0].send(signal.SIGKILL)
        assert processes[0].ended()[0] == -signal.SIGKILL
        gate.touch()
        for process in processes[1:]:
            ended(process)
    assert tree(store) == whole
    assert verify(store).damages == ()


def test_one_that_comes_late_finds_nothing_to_do(
    images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    for _ in range(2):
        with Forked(several_extractions.main, images, tmp_path / "store", images) as process:
            ended(process)
    assert tree(tmp_path / "store") == whole


def test_what_a_worker_elsewhere_left_is_taken_over_after_its_lease(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "LEASE", 1.0)
    samples, teachers = toy_samples(tmp_path / "images", 9), {"a": toy_teacher("a")}
    folder = tmp_path / "store" / WORKERS
    folder.mkdir(parents=True)
    (folder / PART).write_text(ELSEWHERE)
    presence = folder / f"worker-{ELSEWHERE}"
    presence.write_text("together")
    started = time.monotonic()
    beats = threading.Event()

    def beat() -> None:
        while not beats.wait(0.1) and time.monotonic() - started < 2:
            presence.touch()

    beating = threading.Thread(target=beat)
    beating.start()
    extract(tmp_path / "store", samples, teachers, SMALL)
    beats.set()
    beating.join()
    assert time.monotonic() - started > 2  # it waited for as long as the other gave signs of life
    extract(tmp_path / "alone", samples, teachers, SMALL)
    assert tree(tmp_path / "store") == tree(tmp_path / "alone")


def test_claims_of_dead_processes_here_are_free_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    machine = own_name().partition("-")[0]
    ticks = Path(f"/proc/{child.pid}/stat")
    if not ticks.exists():
        pytest.skip("the system does not tell when a process started")
    name = f"{machine}-{child.pid}-{ticks.read_text().rpartition(')')[2].split()[19]}"
    with Workers.join(tmp_path) as mine:
        (tmp_path / WORKERS / PART).write_text(f"{name}-0")
        assert runs_here(name)
        assert not mine.take(PART)
        child.send_signal(signal.SIGKILL)
        until(lambda: not runs_here(name))  # dead, though nobody has waited for it
        assert mine.take(PART)
        child.wait()
    # The number alone is not the process: another may have it by now.
    assert runs_here(f"{machine}-{os.getpid()}-1") is False
    assert runs_here(ELSEWHERE) is None


def test_a_part_has_one_worker(tmp_path: Path) -> None:
    with Workers.join(tmp_path) as one, Workers.join(tmp_path) as other:
        assert one.take(PART)
        assert not other.take(PART)
        other.release(PART)  # not its own
        assert not other.take(PART)
        one.release(PART)
        assert other.take(PART)
        assert one.admit(alone=False)
        assert other.admit(alone=False)
        assert not one.admit(alone=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_the_lock_lets_one_in(tmp_path: Path, links: bool, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    inside, most = 0, 0

    def go() -> None:
        nonlocal inside, most
        with Workers.join(tmp_path) as workers:
            for _ in range(10):
                with workers.lock():
                    inside += 1
                    most = max(most, inside)
                    time.sleep(0.001)
                    inside -= 1

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_broken(tmp_path: Path) -> None:
    with Workers.join(tmp_path) as workers:
        (tmp_path / WORKERS / "lock").write_text(f"{own_name().partition('-')[0]}-{2**22 + 5}-9-0")
        with workers.lock():
            pass
        assert sorted(path.name[:7] for path in (tmp_path / WORKERS).iterdir()) == ["worker-"]


def test_no_name_of_a_machine_is_written_down() -> None:
    assert socket.gethostname() not in own_name()
