"""Which keys may stand at a place of a schema, and which of its kinds have a key."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

TAGS: Final = ("kind", "method")
_Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class KeysAround:
    """The keys that the mapping around a key may have (`own`), and its other kinds that have that key.

    `tag` and `value` say which kind the mapping is, `others` the values of the tag that it would need.
    `stands_alone`: a mapping of this kind may have its tag and nothing else.
    """

    own: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    tag: str = ""
    value: str = ""
    stands_alone: bool = False


class SchemaKeys:
    """The keys of a model and of all that it holds, by place."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: _Schema = model.model_json_schema()
        self._defs: Mapping[str, _Schema] = self._root.get("$defs", {})

    def around(self, place: Sequence[Any], content: Any) -> KeysAround:
        """What may stand beside the last key of `place`, where `content` is what the model was given."""
        members = [*self._members(self._root)]
        for part in place[:-1]:
            inside = [each for member in _of_kind(members, content) for each in _inside(member, part)]
            members = [each for schema in inside for each in self._members(schema)]
            content = value_at(content, part)
        here = _of_kind(members, content)
        own = frozenset(key for member in here for key in member.get("properties", {}))
        key, tag = place[-1], _tag(content)
        if tag is None or not here or key in own:
            return KeysAround(own=own)
        having = [member["properties"] for member in members if key in member.get("properties", {})]
        others = dict.fromkeys(value for keys in having for value in _values(keys.get(tag, {})))
        return KeysAround(
            own=own,
            others=tuple(others),
            tag=tag,
            value=content[tag],
            stands_alone={*here[0].get("required", ())} <= {tag},
        )

    def _members(self, schema: _Schema) -> Iterator[_Schema]:
        """What a schema may be: itself, or each member of a union, with names looked up."""
        if "$ref" in schema:
            schema = self._defs[str(schema["$ref"]).rsplit("/", 1)[-1]]
        nested = [each for union in ("anyOf", "oneOf", "allOf") for each in schema.get(union, ())]
        if not nested:
            yield schema
        for each in nested:
            yield from self._members(each)


def _of_kind(members: Sequence[_Schema], content: Any) -> list[_Schema]:
    """Those of a union that the `kind` or `method` of `content` names; all where it names none."""
    tag = _tag(content)
    if tag is None:
        return [*members]
    named = [each for each in members if content[tag] in _values(each.get("properties", {}).get(tag, {}))]
    return named or [*members]


def _tag(content: Any) -> str | None:
    if not isinstance(content, Mapping):
        return None
    return next((tag for tag in TAGS if isinstance(content.get(tag), str)), None)


def _values(schema: _Schema) -> Sequence[str]:
    return [schema["const"]] if "const" in schema else schema.get("enum", [])


def _inside(member: _Schema, part: Any) -> Iterator[_Schema]:
    """An entry of a list, a key of its own, or one of a mapping whose keys are the user's."""
    named = member.get("properties", {}).get(part)
    further = member.get("items" if isinstance(part, int) else "additionalProperties")
    schemas = [named or further, *member.get("patternProperties", {}).values()]
    yield from (each for each in schemas if isinstance(each, Mapping))


def value_at(content: Any, part: Any) -> Any:
    """The entry of a list or the value of a key; None where there is none."""
    if isinstance(content, list) and isinstance(part, int):
        return content[part]
    return content.get(part) if isinstance(content, Mapping) else None
