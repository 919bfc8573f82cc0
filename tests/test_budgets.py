"""The budgets of ARCHITECTURE.md: sizes of files and functions, imports, start-up, and what prose may say."""

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
BESIDE = sorted(path for room in ("tests", "benchmarks", "studies") for path in (ROOT / room).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7
START_UP_SECONDS = 0.5
HEAVY = ("torch", "open_clip", "transformers", "sklearn", "pyarrow", "plotly")


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


@pytest.mark.parametrize("path", SOURCE, ids=lambda path: str(path.relative_to(ROOT)))
def test_sizes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    for function in _functions(path):
        assert function.end_lineno - function.lineno + 1 <= MAX_FUNCTION_LINES, function.name
        assert _parameters(function) <= MAX_PARAMETERS, function.name


def test_files_beside_the_source_are_small_too() -> None:
    assert [path for path in BESIDE if len(path.read_text().splitlines()) > MAX_FILE_LINES] == []


def test_every_module_has_a_docstring() -> None:
    assert [path for path in SOURCE if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("arguments", [["-c", "import meddistill"], ["-m", "meddistill", "--help"]])
def test_starting_is_quick_and_loads_no_heavy_library(arguments: list[str]) -> None:
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True
    )
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in loaded.stderr.splitlines()}
    assert modules.isdisjoint(HEAVY)
    seconds = []
    for _ in range(3):
        before = _seconds_of_children()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        seconds.append(_seconds_of_children() - before)
    assert min(seconds) < START_UP_SECONDS


def _seconds_of_children() -> float:
    """Of the processor: what else runs on the machine does not count. Benchmarks time the wall."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_the_project_speaks_only_of_itself() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("no git here")
    address = "|".join(("index" + "-url", "find" + "-links", r"https?://[^ ]*/" + "simple"))
    machine = r"(?<![\w.])/(wor" + r"k|tm" + r"p|roo" + r"t)/[a-z]"
    forbidden = re.compile(f"{address}|{machine}")
    wrong = []
    for name in tracked.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".cfg", ""} and path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            wrong += [f"{name}:{number}" for number, line in enumerate(lines, 1) if forbidden.search(line)]
    assert wrong == []


def test_no_large_file_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("no git here")
    sizes = {name: (ROOT / name).stat().st_size for name in tracked.stdout.split() if (ROOT / name).is_file()}
    assert [name for name, size in sizes.items() if size > 1_000_000] == []
