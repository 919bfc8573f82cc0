"""Modules by the teachers they belong to."""

from collections.abc import ItemsView, Iterator, KeysView
from typing import Final, final

from torch import nn

# Neither stands in a teacher's id.
_ESCAPED: Final = "teacher:"
_DOT: Final = ":"


@final
class ByTeacher(nn.ModuleDict):
    """Teacher id → module.

    torch keeps a module as an attribute of its dict, so that `train`, `half` or `forward` cannot be its key,
    nor anything with a dot. Such an id has a key of its own in the state (`teacher:train`); any other id is
    its key.
    """

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(_key(key))

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(_key(key), module)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(_key(key))

    def __contains__(self, key: str) -> bool:
        return super().__contains__(_key(key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id())

    def keys(self) -> KeysView[str]:
        """The teachers' ids."""
        return self._by_id().keys()

    def items(self) -> ItemsView[str, nn.Module]:
        """The teachers' ids with their modules."""
        return self._by_id().items()

    def _by_id(self) -> dict[str, nn.Module]:
        return {_id(key): module for key, module in super().items()}


def _key(teacher: str) -> str:
    is_safe = "." not in teacher and not hasattr(nn.ModuleDict, teacher)
    return teacher if is_safe and teacher not in _OWN else f"{_ESCAPED}{teacher.replace('.', _DOT)}"


def _id(key: str) -> str:
    return key.removeprefix(_ESCAPED).replace(_DOT, ".") if key.startswith(_ESCAPED) else key


# Attributes that a dict has and its class has not, such as `training`.
_OWN: Final = frozenset(vars(nn.ModuleDict()))
