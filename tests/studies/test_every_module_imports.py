"""Benchmarks and studies are run by hand; here each is imported, so that no change leaves one behind."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    f"{path.parent.name}.{path.stem}"
    for folder in ("benchmarks", "studies")
    for path in sorted((ROOT / folder).glob("*.py"))
    if not path.stem.startswith("__")
]


@pytest.mark.parametrize("name", MODULES)
def test_it_imports(name: str) -> None:
    importlib.import_module(name)
