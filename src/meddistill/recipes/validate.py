"""A schema's mistakes in plain words, all of them, with a suggestion for a misspelt key."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from meddistill.core_yaml import QUOTE
from meddistill.errors import ConfigError, did_you_mean
from meddistill.recipes.schema_keys import TAGS, KeysAround, SchemaKeys, value_at

Model = TypeVar("Model", bound=BaseModel)
_TEXT: Final = ("string_type", "string_sub_type")
_FORMS: Final = (*_TEXT, "list_type", "dict_type", "model_type", "tuple_type", "too_short")
_CHOICES: Final = ("literal_error", "enum")
_LENGTHS: Final = {
    "too_short": ("must have {min_length} or more; got {actual_length}", "Add to them."),
    "too_long": ("must have {max_length} at most; got {actual_length}", "Take some out."),
}
# What pydantic puts into a place to tell which of several types a value was tried as.
_FORM_NAME: Final = re.compile(r"str|int|float|bool|none|[a-z-]+\[.*\]|[A-Z]\w*")


def validated(model: type[Model], content: Mapping[str, Any], *, subject: str) -> Model:
    """`content` as `model`; raises ConfigError with one line for every mistake in it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        keys = SchemaKeys(model)
        details: list[dict[str, Any]] = [dict(detail) for detail in error.errors(include_url=False)]
        places = [_parts(detail["loc"], content) for detail in details]
        placed = zip(details, places, strict=True)
        kept = [each for each, place in placed if not _is_echo(each, place, places)]
        texts = {_parts(each["loc"], content) for each in kept if each["type"] in _TEXT}
        lines = [_line(each, keys, content) for each in kept if not _is_other_form(each, content, texts)]
        raise ConfigError(subject, list(dict.fromkeys(lines))) from None


def _is_echo(detail: Mapping[str, Any], place: Sequence[Any], places: Sequence[Sequence[Any]]) -> bool:
    """Whether a value has the wrong form, or too few items, only because its own items have mistakes."""
    inside = any(len(other) > len(place) and other[: len(place)] == place for other in places)
    return detail["type"] in _FORMS and inside


def _is_other_form(detail: Mapping[str, Any], content: Any, texts: Collection[Sequence[Any]]) -> bool:
    """Whether one value that should be a text is refused again as the list that might stand there."""
    return detail["type"] not in _TEXT and _parts(detail["loc"], content) in texts


def _place(parts: Sequence[Any], content: Any) -> str:
    """Dotted keys as the file has them."""
    return ".".join(map(str, _parts(parts, content))) or "the recipe"


def _parts(parts: Sequence[Any], content: Any) -> tuple[Any, ...]:
    """The keys and numbers of a place; pydantic adds what tells apart the members of a union.

    Those are a `kind` or `method`, and names of types where a value may have several forms.
    """
    kept = []
    for part in parts:
        if not (_is_tag(part, content) or _is_form(part, content)):
            kept.append(part)
            content = value_at(content, part)
    return tuple(kept)


def _is_tag(part: Any, content: Any) -> bool:
    return isinstance(content, Mapping) and part not in content and part in map(content.get, TAGS)


def _is_form(part: Any, content: Any) -> bool:
    there = isinstance(content, Mapping) and part in content
    return not there and isinstance(part, str) and _FORM_NAME.fullmatch(part) is not None


def _line(detail: Mapping[str, Any], keys: SchemaKeys, content: Mapping[str, Any]) -> str:
    place = _place(detail["loc"], content)
    kind, given, context = detail["type"], detail.get("input"), detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(place, keys.around(_parts(detail["loc"], content), content))
    if kind == "missing":
        return f"`{place}` must be given; it is missing."
    discriminator = str(context.get("discriminator", "kind")).strip("'")
    if kind == "union_tag_not_found":
        return f"`{place}.{discriminator}` must be given; it is missing."
    if kind == "union_tag_invalid":
        tag, expected = str(context.get("tag")), str(context.get("expected_tags", ""))
        hint = did_you_mean(tag, _choices(expected))
        return f"`{place}.{discriminator}` must be one of {expected}; got '{tag}'.{hint}"
    if kind in _LENGTHS:
        rule, remedy = _LENGTHS[kind]
        return f"`{place}` {rule.format(**context)}. {remedy}"
    rule = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    if rule.startswith("`"):  # names the key by itself
        ended = rule if rule.endswith("?") else f"{rule.rstrip('.')}."
        return f"`{place}`: {ended}" if detail["loc"] else ended
    rule = rule if rule.startswith(("should", "must")) else f"must hold: {rule}"
    rule = rule.replace("should", "must", 1).rstrip(".")
    shown = f"; got {_short(given)}" if not isinstance(given, dict | list) and "; got " not in rule else ""
    quote = f" {QUOTE}" if kind in _TEXT and not isinstance(given, dict | list) else ""
    hint = did_you_mean(str(given), _choices(str(context["expected"]))) if kind in _CHOICES else ""
    return f"`{place}` {rule}{shown}.{quote}{hint}"


def _unknown_key(place: str, keys: KeysAround) -> str:
    """About a key that is not there: where it belongs to another kind, which one, else a similar one."""
    holder, _, key = place.rpartition(".")
    near = did_you_mean(key, keys.own)
    if not keys.others:
        return f"`{place}` must be a known key.{near or ' Take it out.'}"
    others = f"{keys.tag} {', '.join(keys.others)}"
    rule = f"`{place}` must be a key of {keys.tag} {keys.value}; it belongs to {others}."
    whole = f", or replace the whole: `{holder}={{{keys.tag}: {keys.value}}}`" if keys.stands_alone else ""
    return f"{rule}{near or f' Take it out{whole}.'}"


def _choices(expected: str) -> list[str]:
    """What may stand in a place, of pydantic's sentence about it."""
    return re.findall(r"'([^']*)'", expected)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
