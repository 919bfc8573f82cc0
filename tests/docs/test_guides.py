"""Every block of README and guides is run or checked, and every link leads somewhere.

Python blocks of a page run in order in one namespace; lines of shell blocks run through the command line, in
the folder of `lab`; YAML blocks must fit the schema. What is not run stands in `NOT_RUN`, with the reason.
"""

import csv
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from guide_blocks import GUIDES, PAGES, ROOT, Block, Command, anchors, blocks, commands, links
from guide_lab import PAIRS, quick
from PIL import Image

from meddistill.cli import build_app, main
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.imaging import Geometry, rasterize
from meddistill.recipes.schema import Recipe
from meddistill.recipes.validate import validated
from meddistill.reference.keys import MARKER, reference
from meddistill.teachers.config import RecipeTeacher
from meddistill.teachers.load import load_teacher

pytestmark = pytest.mark.slow

NAMES = [str(page.relative_to(ROOT)) for page in GUIDES]
SHOWN = {"": "a listing of files", "text": "the output of the block before it", "json": "part of a file"}
ON_DISK = re.compile(r"^(local-dir:)?teachers/")


def _makefile_has(command: Command) -> None:
    for target in command.words[1:]:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command.place


def _installs_this_project(command: Command) -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    extras = re.findall(r"meddistill\[(\w+)\]", command.text)
    assert "meddistill" in command.text or "--editable" in command.text, command.place
    for extra in extras:
        assert re.search(rf"^{extra} = \[", settings, re.MULTILINE), command.place


def _options_parse(command: Command) -> None:
    words = command.words
    place = words.index("meddistill")
    assert words[:place] == ["torchrun", "--nproc_per_node", words[2], "-m"], command.place
    build_app().parse_args(words[place + 1 :], exit_on_error=False, print_error=False)


def _nothing_to_check(command: Command) -> None:
    assert command.words


# First word(s) of a line → why it is not run, and what is checked instead.
NOT_RUN: dict[str, tuple[str, Callable[[Command], None]]] = {
    "make": ("builds an environment; the demo and the suite are run by themselves", _makefile_has),
    "pip": ("reaches for a package index", _installs_this_project),
    "torchrun": ("starts processes; tests/gradients has two of them", _options_parse),
    "hf": ("reaches for the network", _nothing_to_check),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_page_works(
    name: str, lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab)
    monkeypatch.syspath_prepend(lab)
    namespace: dict[str, Any] = {"__name__": "guide"}
    printed = ""
    for block in blocks(ROOT / name):
        if block.language == "python":
            _run_python(block, namespace)
        elif block.language == "bash":
            capsys.readouterr()
            for command in commands(block):
                _run_command(command)
            printed = "".join(capsys.readouterr())
        elif block.language == "yaml":
            _check_yaml(block, lab)
        elif block.language == "csv":
            _check_csv(block)
        elif block.language == "text":
            missing = [line for line in block.content.splitlines() if line.strip() not in printed]
            assert missing == [], block.place
        else:
            assert block.language in SHOWN, block.place


def _run_python(block: Block, namespace: dict[str, Any]) -> None:
    if block.file:
        Path(block.file).write_text(block.content)
        return
    exec(compile(block.padded(), str(block.page), "exec"), namespace)


def _run_command(command: Command) -> None:
    words = command.words
    if words[0] in NOT_RUN:
        NOT_RUN[words[0]][1](command)
        return
    if words[:3] == ["python", "-m", "meddistill"]:
        words = words[2:]
    assert words[0] == "meddistill", f"{command.place}: {words[0]} is neither run nor in NOT_RUN"
    assert main(words[1:]) == command.exit_code, command.place


def _check_yaml(block: Block, lab: Path) -> None:
    content = yaml.safe_load(block.content)
    if "tables" in content or "tasks" in content:
        whole = yaml.safe_load((lab / "suite.yaml").read_text())
        validated(SuiteConfig, {**whole, **content}, subject=block.place)
    else:
        whole = yaml.safe_load((lab / "mine.yaml").read_text())
        recipe = validated(Recipe, {**whole, **content}, subject=block.place)
        _load_teachers_on_disk(recipe, content, lab)
        if "stages" in content and block.file:
            content = quick(content)
    if block.file:
        (lab / block.file).write_text(yaml.safe_dump(content, sort_keys=False))


def _load_teachers_on_disk(recipe: Recipe, content: dict[str, Any], lab: Path) -> None:
    """A teacher in a guide loads as it is written there; hub ids are left alone, for there is no network."""
    for name in content.get("teachers", {}):
        config = recipe.teachers[name]
        if isinstance(config, RecipeTeacher):  # its recipe is a file of the reader's
            continue
        model = getattr(config, "model", None) or getattr(config, "text_model", None)
        if model is None or ON_DISK.match(model) or (lab / model).exists():
            load_teacher(name, config, base=lab)


def _check_csv(block: Block) -> None:
    rows = list(csv.DictReader(io.StringIO(block.content)))
    assert rows, block.place
    for row in rows:
        assert set(row) == set(PAIRS), block.place
        assert all(row.values()), block.place


def test_the_guides_agree_with_the_schema() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert page.partition(MARKER)[2].strip() == reference().strip(), (
        "write it again: python -m meddistill.reference.keys docs/recipes.md"
    )


def test_every_key_of_the_reference_has_a_meaning() -> None:
    empty = [line for line in reference().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert empty == []


def test_the_complete_examples_show_every_key() -> None:
    examples = {
        block.file: yaml.safe_load(block.content)
        for block in blocks(ROOT / "docs" / "recipes.md")
        if block.file
    }
    assert set(examples["recipe.yaml"]) == set(Recipe.model_fields)
    assert set(examples["house.yaml"]) == set(SuiteConfig.model_fields)
    kinds = {task["kind"] for task in examples["house.yaml"]["tasks"]}
    assert kinds == {"zero_shot", "linear_probe", "knn", "retrieval"}


def test_an_integrator_needs_neither_meddistill_nor_torch(lab: Path) -> None:
    """The page's first Python block runs with numpy, Pillow, onnxruntime, tokenizers and ftfy alone."""
    snippet = next(block for block in blocks(ROOT / "docs" / "bundle.md") if block.language == "python")
    check = "import sys; assert not {'meddistill', 'torch', 'open_clip'} & set(sys.modules), 'too much'"
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet.content}\n{check}"],
        cwd=lab,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(40, 70), (90, 33), (64, 64), (17, 101)])
def test_the_integrators_raster_is_ours(
    resize: str, size: tuple[int, int], lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snippet = next(block for block in blocks(ROOT / "docs" / "bundle.md") if block.language == "python")
    monkeypatch.chdir(lab)
    namespace: dict[str, Any] = {}
    exec(snippet.content, namespace)
    namespace["contract"]["input"] |= {"resize": resize, "height": 48, "width": 48}
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = rasterize(pixels, Geometry(48, 48, resize, "bicubic"))
    assert (namespace["raster"](Image.fromarray(pixels)) == expected).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"
