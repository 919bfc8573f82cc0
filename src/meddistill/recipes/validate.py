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
        if not _is_tag(part, content):
            kept.append(str(part))
            content = _inside(content, part)
    return ".".join(kept) or "the recipe"


def _is_tag(part: Any, content: Any) -> bool:
    return isinstance(content, Mapping) and part not in content and part in map(content.get, _TAGS)


def _inside(content: Any, part: Any) -> Any:
    if isinstance(content, list) and isinstance(part, int):
        return content[part]
    return content.get(part) if isinstance(content, Mapping) else None


def _line(detail: Mapping[str, Any], known: frozenset[str], content: Mapping[str, Any]) -> str:
    place = _place(detail["loc"], content)
    kind, found = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        key, tag = str(detail["loc"][-1]), _tag(detail["loc"], content)
        if key in known and tag:
            near = _did_you_mean(key, known - {key})
            return f"`{place}` must be a key of {tag}; it belongs to another. {near or 'Leave it out.'}"
        return f"`{place}` must be a known key. {_did_you_mean(key, known)}".rstrip()
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
    if rule.startswith("`"):  # names the key by itself
        ended = rule if rule.endswith("?") else f"{rule.rstrip('.')}."
        return f"`{place}`: {ended}" if detail["loc"] else ended
    rule = rule if rule.startswith(("should", "must")) else f"must hold: {rule}"
    shown = f"; got {_short(found)}" if not isinstance(found, dict | list) and "; got " not in rule else ""
    return f"`{place}` {rule.replace('should be', 'must be', 1).rstrip('.')}{shown}."


def _tag(place: Sequence[Any], content: Any) -> str | None:
    """The `kind` or `method` of the mapping that holds the last key of `place`, as `kind learned_head`."""
    for part in place[:-1]:
        if not _is_tag(part, content):
            content = _inside(content, part)
    if not isinstance(content, Mapping):
        return None
    return next((f"{name} {content[name]}" for name in _TAGS if isinstance(content.get(name), str)), None)


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
