"""A mapping whose values are made when they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, final

Value = TypeVar("Value")


@final
class Lazily(Mapping[str, Value]):
    """Names with what makes their values; each is made once, and not before it is looked up."""

    def __init__(self, makers: Mapping[str, Callable[[], Value]]) -> None:
        self._makers = makers
        self._made: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
