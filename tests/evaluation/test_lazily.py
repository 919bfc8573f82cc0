"""Values that are made when they are asked for."""

import pytest

from meddistill.evaluation.base.lazily import Lazily


def test_a_value_is_made_once_and_only_when_looked_up() -> None:
    made: list[str] = []

    def maker(name: str) -> str:
        made.append(name)
        return name.upper()

    found = Lazily({name: (lambda name=name: maker(name)) for name in ("a", "b")})
    assert (list(found), len(found), "a" in found) == (["a", "b"], 2, True)
    assert made == []
    assert (found["b"], found["b"], made) == ("B", "B", ["b"])
    with pytest.raises(KeyError):
        found["c"]
