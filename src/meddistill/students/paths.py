"""Paths that a recipe names."""

from pathlib import Path


def resolve_path(value: str, base: Path) -> Path:
    """A path of the recipe, relative to the recipe's folder."""
    path = Path(value).expanduser()
    return path if path.is_absolute() else base / path
