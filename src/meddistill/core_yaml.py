"""YAML by the core schema of YAML 1.2, in which a text stays the text that was written.

PyYAML reads YAML 1.1: `no` is false, `12:30` is 750, `010` is 8, `2020-01-02` a date, `1e3` a text. Labels,
answers and cells of tables are such words. Here only `true`, `false`, `null` and decimal, 0o and 0x numbers
are no texts; keys are always texts; and a number knows how it was written, so that it is that text where a
text is wanted. Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

QUOTE: Final = "Put a text that YAML reads otherwise into quotation marks."
_WIDTH: Final = 110
_NULL: Final = re.compile(r"~|null|Null|NULL|", re.ASCII)
_BOOL: Final = re.compile(r"true|True|TRUE|false|False|FALSE", re.ASCII)
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT: Final = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", re.ASCII
)
_DIGITS: Final = [*"-+0123456789."]
_WORDS: Final = frozenset(("yes", "Yes", "YES", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"))
_TAG: Final = "tag:yaml.org,2002:"


class WrittenInt(int):
    """A whole number whose text is the one that was written, such as 007."""

    text: str

    def __str__(self) -> str:
        return self.text


class WrittenFloat(float):
    """A number whose text is the one that was written, such as 1.50."""

    text: str

    def __str__(self) -> str:
        return self.text


class BareWord(str):
    """`yes`, `no`, `on` or `off` without quotation marks: a text, which YAML 1.1 takes for a truth value."""

    __slots__ = ()


class _Loader(yaml.SafeLoader):
    """Keeps no second of two equal keys in silence, as SafeLoader does; merges (`<<`) are followed."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.deep_construct = True  # or a value that holds itself would be made, and never be walked through

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        """The value of a node; a tag that does not fit its text is a mistake in the file, with its place."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            problem = f"this cannot be read as {node.tag.removeprefix(_TAG)}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag.removeprefix(_TAG) in _KEYS:
                key_node.tag = f"{_TAG}str"
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                problem = f"`{key}` must stand once in a mapping; found it again"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key if isinstance(key, Hashable) else None)
        return super().construct_mapping(node, deep=deep)


_KEYS: Final = ("bool", "int", "float", "null", "str")


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than a text."""

    yaml_implicit_resolvers = {key: [*each] for key, each in yaml.SafeDumper.yaml_implicit_resolvers.items()}  # noqa: RUF012


def load_yaml(text: str) -> Any:
    """The plain values that a YAML text holds; raises yaml.YAMLError for anything else."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from None


def dump_yaml(content: Any, *, width: int = _WIDTH) -> str:
    """Plain values as YAML, in their order; `load_yaml` gives them back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def is_true(value: Any) -> Any:
    """True for `yes` and `on` without quotation marks, which a truth value may be called; else the value."""
    return True if isinstance(value, BareWord) and value.lower() in {"yes", "on"} else value


def bare_word_in(value: Any, place: str = "") -> str | None:
    """Where plain values hold a bare `yes`, `no`, `on` or `off`: its place, dotted; None where none is.

    Needed where either a text or a truth value may be meant, so that neither is chosen in silence.
    """
    if isinstance(value, BareWord):
        return place
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    words = (bare_word_in(each, f"{place}.{key}".lstrip(".")) for key, each in pairs)
    return next((each for each in words if each is not None), None)


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    value = str(loader.construct_scalar(node))
    return BareWord(value) if node.style is None and value in _WORDS else value


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    number = WrittenInt(text if base == 10 else text[2:], base)
    number.text = text
    return number if text != repr(int(number)) else int(number)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node))
    number = WrittenFloat(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    number.text = text
    return number if text != repr(float(number)) else float(number)


def _written(dumper: yaml.SafeDumper, number: WrittenInt | WrittenFloat) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{_TAG}{'int' if isinstance(number, int) else 'float'}", number.text)


def _bare(dumper: yaml.SafeDumper, word: BareWord) -> yaml.ScalarNode:
    return dumper.represent_str(str(word))


for _name, _pattern, _first in (
    ("null", _NULL, [*"~nN", ""]),
    ("bool", _BOOL, [*"tTfF"]),
    ("int", _INT, _DIGITS),
    ("float", _FLOAT, _DIGITS),
    ("merge", re.compile("<<"), ["<"]),
):
    _whole = re.compile(f"(?:{_pattern.pattern})$", re.ASCII)
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", _whole, _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _whole, _first)
_Loader.add_constructor(f"{_TAG}str", _text)
_Loader.add_constructor(f"{_TAG}merge", _text)
_Loader.add_constructor(f"{_TAG}int", _int)
_Loader.add_constructor(f"{_TAG}float", _float)
_Dumper.add_representer(WrittenInt, _written)
_Dumper.add_representer(WrittenFloat, _written)
_Dumper.add_representer(BareWord, _bare)
