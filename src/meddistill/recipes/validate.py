"""A schema's mistakes in plain words, all of them, with a suggestion for a misspelt key."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from meddistill.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
_TAGS: Final = ("kind", "method")


def validated(model: type[Model], content: Mapping[str, Any], *, subject: str) -> Model:
    """`content` as `model`; raises ConfigError with one line for every mistake in it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        known = _known_keys(model)
        details = [dict(detail) for detail in error.errors(include_url=False)]
        places: list[Any] = [detail["loc"] for detail in details]
        lines = [_line(detail, known, content) for detail in details if not _is_echo(detail, places)]
        raise ConfigError(subject, list(dict.fromkeys(lines))) from None


def _is_echo(detail: Mapping[str, Any], places: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a list is too short only because its own items have mistakes."""
    place = detail["loc"]
    inside = any(other[: len(place)] == place and len(other) > len(place) for other in places)
    return detail["type"] == "too_short" and inside


def _place(parts: Sequence[Any], content: Any) -> str:
    """Dotted keys as the file has them; pydantic adds the `kind` or `method` that tells a union's members."""
    kept = []
    for part in parts:
        if isinstance(content, Mapping) and part not in content and part in map(content.get, _TAGS):
            continue
        kept.append(str(part))
        inside = isinstance(content, Mapping) or (isinstance(content, list) and isinstance(part, int))
        content = content[part] if inside and (not isinstance(content, Mapping) or part in content) else None
    return ".".join(kept) or "the recipe"


def _line(detail: Mapping[str, Any], known: frozenset[str], content: Mapping[str, Any]) -> str:
    place = _place(detail["loc"], content)
    kind, found = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return f"`{place}` must be a known key. {_did_you_mean(str(detail['loc'][-1]), known)}".rstrip()
    if kind == "missing":
        return f"`{place}` must be given; it is missing."
    if kind == "union_tag_invalid":
        context = detail.get("ctx", {})
        tag, expected = str(context.get("tag")), str(context.get("expected_tags", ""))
        guess = difflib.get_close_matches(tag, expected.replace("'", "").split(", "), n=1)
        hint = f" Did you mean `{guess[0]}`?" if guess else ""
        discriminator = str(context.get("discriminator", "kind")).strip("'")
        return f"`{place}.{discriminator}` must be one of {expected}; got '{tag}'.{hint}"
    rule = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    rule = rule if rule.startswith(("should", "must")) else f"must hold: {rule}"
    shown = f"; got {_short(found)}" if not isinstance(found, dict | list) and "; got " not in rule else ""
    return f"`{place}` {rule.replace('should be', 'must be', 1).rstrip('.')}{shown}."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _did_you_mean(key: str, known: frozenset[str]) -> str:
    guess = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
    return f"Did you mean `{guess[0]}`?" if guess else ""


def _known_keys(model: type[BaseModel]) -> frozenset[str]:
    """Every property name in the model's JSON schema, nested models included."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for part in parts for name in part.get("properties", {}))
