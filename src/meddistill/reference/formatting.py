"""A schema's types, defaults and docstrings in words for a reader."""

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]

_PLAIN: Final[Mapping[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    type(None): "null",
}
_SIGNS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


@cache
def meanings(model: Model) -> Mapping[str, str]:
    """Key → the docstring under its field, in the model or in the base that defines it."""
    texts: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            texts.update(_docstrings(each))
    return texts


def summary(model: Model) -> str:
    """A model's docstring as paragraphs."""
    paragraphs = inspect.cleandoc(model.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def place_of(key: str, annotation: Any) -> tuple[str, tuple[Model, ...]]:
    """`key`, `key.<name>` or `key[]`, by whether the field holds one, a mapping or a list; and its models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return key, (annotation,)
    origin = get_origin(annotation)
    models = tuple(dict.fromkeys(_models(annotation)))
    if origin in (types.UnionType, Union, Annotated, Literal) or not models:
        return key, models
    return (f"{key}.<name>" if len(get_args(annotation)) == 2 and _is_mapping(origin) else f"{key}[]"), models


def anchor(place: str) -> str:
    """The link to a heading, as GitHub makes it."""
    return "#" + re.sub(r"[^\w -]", "", place.lower()).replace(" ", "-")


def type_of(field: FieldInfo, places: Mapping[Model, str]) -> str:
    """A field's type, limits included; its default tells whether null is meant."""
    words = _words(field.annotation, places)
    if field.default is None:
        words = words.removesuffix(" or null")
    limits = _limits(field.metadata)
    return f"{words} {limits}".rstrip()


def default_of(field: FieldInfo) -> str:
    """A field's default as YAML."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return "–"
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_none=True)
        plain = type(value)()
        tag = {key: given[key] for key in ("kind",) if key in given}
        return f"`{_yaml(tag or _short(given))}`" if tag or value != plain else "its defaults"
    return f"`{_yaml(_jsonable(value))}`"


def _docstrings(model: Model) -> Iterator[tuple[str, str]]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    if not isinstance(tree, ast.ClassDef):
        return
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = text.value if isinstance(text, ast.Expr) else None
            if isinstance(said, ast.Constant) and isinstance(said.value, str):
                yield field.target.id, " ".join(said.value.split())


def _models(annotation: Any) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _models(inner)


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _words(annotation: Any, places: Mapping[Model, str]) -> str:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[mapping]({anchor(places[annotation])})"
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{_words(inner[0], places)} {_limits(inner[1:])}".rstrip()
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in inner)
    if origin in (types.UnionType, Union):
        return " or ".join(dict.fromkeys(_words(each, places) for each in inner))
    if _is_mapping(origin):
        return f"mapping of names to {_words(inner[1], places)}"
    if origin in (tuple, list):
        return _sequence(inner, places)
    return "any value"


def _sequence(inner: tuple[Any, ...], places: Mapping[Model, str]) -> str:
    if len(inner) == 1 or inner[1] is Ellipsis:
        return f"list of {_words(inner[0], places)}"
    return "[" + ", ".join(_words(each, places) for each in inner) + "]"


def _limits(metadata: Any) -> str:
    """`(> 0, ≤ 1)` of what pydantic or annotated-types say of a number."""
    limits: dict[str, Any] = {}
    for each in metadata:
        for part in each.metadata if isinstance(each, FieldInfo) else [each]:
            limits.update((name, getattr(part, name)) for name in _SIGNS if hasattr(part, name))
    said = [f"{_SIGNS[name]} {_number(value)}" for name, value in limits.items() if value is not None]
    return f"({', '.join(said)})" if said else ""


def _number(value: Any) -> str:
    powers = {2**31: "2^31", 2**63: "2^63"}
    return powers.get(value, f"{value:,}" if isinstance(value, int) else f"{value:g}")


def _short(given: dict[str, Any]) -> dict[str, Any]:
    """Objectives by their weights alone, as a recipe writes them."""
    return {
        key: value["weight"] if isinstance(value, dict) and "weight" in value else value
        for key, value in given.items()
    }


def _jsonable(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_jsonable(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.replace("\n...", "").strip()
