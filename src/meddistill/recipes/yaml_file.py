"""YAML in, plain mappings out: duplicate keys refused, overrides and the smoke dial applied."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meddistill.core_yaml import load_yaml
from meddistill.errors import ConfigError
from meddistill.file_kinds import unreadable

Plain = dict[str, Any]


def read_yaml(path: Path) -> Plain:
    """The mapping that a YAML file holds.

    Raises ConfigError where the file is missing, is no UTF-8 text, is not YAML or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        mistake = f"the file must exist; nothing is at {path}. Check the path."
        raise ConfigError(str(path), [mistake]) from None
    except (OSError, UnicodeDecodeError) as error:
        mistake = f"the file must be readable UTF-8 text; got {_refusal(error)}"
        raise ConfigError(str(path), [mistake]) from None
    try:
        content = load_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"the file must be YAML; {_where(error)}. Mend that place."]) from None
    if not isinstance(content, dict):
        mistake = f"the file must hold a mapping of keys; got {type(content).__name__}."
        raise ConfigError(str(path), [mistake])
    return content


def _refusal(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, IsADirectoryError):
        return "a folder. Name a file in it."
    return str(unreadable(error)) if isinstance(error, OSError) else "other bytes. Save it as UTF-8."


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be parsed"
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if mark else str(problem)


def apply_overrides(content: Mapping[str, Any], assignments: Sequence[str]) -> Plain:
    """`content` with each `key.sub.key=value` applied; values are YAML, list items are named by number.

    Raises ConfigError with all assignments that cannot be applied.
    """
    values: list[tuple[str, Any]] = []
    mistakes = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            mistakes.append(f"`--set` must have the form key=value; got {assignment!r}.")
            continue
        try:
            values.append((key, load_yaml(value)))
        except yaml.YAMLError as error:
            mistakes.append(f"the value of `{key}` must be YAML; {_where(error)}. Quote it.")
    result: Plain = _copy(content)
    mistakes += _set(result, values)
    ConfigError.raise_any("overrides", mistakes)
    return result


def apply_values(content: Mapping[str, Any], values: Mapping[str, Any]) -> Plain:
    """`content` with each value at its dotted key; raises ConfigError with all that cannot stand there."""
    result: Plain = _copy(content)
    mistakes = _set(result, values.items())
    ConfigError.raise_any("set", mistakes)
    return result


def apply_smoke(content: Mapping[str, Any]) -> Plain:
    """`content` with its own `smoke` section, dotted keys and values, turned on; without one as it is."""
    result: Plain = _copy(content)
    for key, value in (result.get("smoke") or {}).items():
        _assign(result, str(key).split("."), value)
    return result


def _set(target: Plain, values: Iterable[tuple[str, Any]]) -> list[str]:
    """Put each value at its dotted key, and return what cannot stand there."""
    mistakes = []
    for key, value in values:
        try:
            _assign(target, key.split("."), _copy(value))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError):
            mistakes.append(
                f"`{key}` must name a place in the recipe; got {f'{key}={value}'!r}. Join keys with dots "
                "and count the entries of a list from 0: stages.0.epochs=5."
            )
    return mistakes


def _assign(target: Any, keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        if isinstance(target, list):
            target = target[int(key)]
            continue
        if target.get(key) is None:  # what the recipe turns off is turned on by a key in it
            target[key] = {}
        target = target[key]
    if isinstance(target, list):
        target[int(keys[-1])] = value
    else:
        target[keys[-1]] = value


def _copy(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _copy(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_copy(value) for value in content]
    return content
