"""The reference of recipes and suites, written from their schema.

`python -m meddistill.reference.keys docs/recipes.md` writes everything below the page's marker again.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from pydantic import BaseModel

from meddistill import licences
from meddistill.errors import ConfigError
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.recipes.schema import Recipe
from meddistill.reference.formatting import default_of, meanings, place_of, summary, type_of
from meddistill.students import presets
from meddistill.students.config import StudentConfig

MARKER: Final = "<!-- Written from here on by `python -m meddistill.reference.keys docs/recipes.md`. -->"
_TAGS: Final = ("kind", "method")

Model = type[BaseModel]
Part = tuple[str, tuple[Model, ...]]


def reference() -> str:
    """Every key of recipes and suites: type, default, meaning."""
    seen: set[Model] = set()
    recipe, suite = list(_parts(Recipe, seen=seen)), list(_parts(SuiteConfig, seen=seen))
    places = {model: place for place, models in (*recipe, *suite) for model in models}
    places = {base: place for model, place in places.items() for base in _bases(model)} | places
    named = ", ".join(f"`{name}`" for name in licences.KNOWN)
    lines = [
        *("## Recipe keys", "", *_table(Recipe, list(Recipe.model_fields), places)),
        *(line for part in recipe for line in _section(part, places)),
        *("", "### What each `licence_policy` refuses", "", *_drawn(licences.__doc__)),
        *("", f"Licences known by name: {named}."),
        *("", "## Suite keys", "", *_table(SuiteConfig, list(SuiteConfig.model_fields), places)),
        *(line for part in suite for line in _section(part, places)),
    ]
    return "\n".join(lines) + "\n"


def write_reference(page: Path) -> None:
    """Write the page's generated part again. Raises ConfigError where the page has no marker."""
    head, marker, _ = page.read_text(encoding="utf-8").partition(MARKER)
    if not marker:
        raise ConfigError(str(page), [f"the page must hold the line `{MARKER}`. Add it."])
    page.write_text(f"{head}{MARKER}\n\n{reference()}", encoding="utf-8")


def _parts(model: Model, place: str = "", seen: set[Model] | None = None) -> Iterator[Part]:
    """Where the models inside a model stand: each once, where it is first needed, outer ones first."""
    seen = set() if seen is None else seen
    for key, field in model.model_fields.items():
        step, models = place_of(key, field.annotation)
        new = tuple(each for each in models if each not in seen)
        here = f"{place}.{step}" if place else step
        seen.update(base for each in new for base in _bases(each))
        if new:
            yield here, new
        for each in new:
            tag = _tag(new)
            inner = f"{here} ({_kind(each, tag)})" if tag and _differ(new) else here
            yield from _parts(each, inner, seen)


def _bases(model: Model) -> Iterator[Model]:
    """The model, and those that it adds no key to: one section is enough for them."""
    for base in model.__mro__:
        if issubclass(base, BaseModel) and base.model_fields.keys() == model.model_fields.keys():
            yield base


def _differ(models: Sequence[Model]) -> bool:
    """Whether a key of several models holds another model in each, so that one place has two sections."""
    held = [
        {key: place_of(key, field.annotation)[1] for key, field in each.model_fields.items()}
        for each in models
    ]
    return any(
        held[0].get(key) != value for each in held[1:] for key, value in each.items() if key in held[0]
    )


def _tag(models: Sequence[Model]) -> str | None:
    named = [name for name in _TAGS if name in models[0].model_fields]
    return named[0] if named and len(models) > 1 else None


def _kind(model: Model, tag: str) -> str:
    return str(get_args(model.model_fields[tag].annotation)[0])


def _section(part: Part, places: Mapping[Model, str]) -> Iterator[str]:
    place, models = part
    tag = _tag(models)
    yield from ("", f"### `{place}`", "")
    if tag is None:
        for model in models:
            yield from (summary(model), "", *_table(model, list(model.model_fields), places))
            if model is StudentConfig:
                yield from ("", *_drawn(presets.__doc__))
        return
    common = [key for key in models[0].model_fields if key != tag and _shared(key, models)]
    yield f"One of {len(models)}, chosen by `{tag}`." + (" Keys of each:" if common else "")
    if common:
        yield from ("", *_table(models[0], common, places))
    for model in models:
        own = [key for key in model.model_fields if key not in common and key != tag]
        yield from ("", f"#### `{tag}: {_kind(model, tag)}`", "", summary(model))
        if own:
            yield from ("", *_table(model, own, places))


def _shared(key: str, models: Sequence[Model]) -> bool:
    first, *others = (model.model_fields.get(key) for model in models)
    return first is not None and all(
        other is not None and (other.annotation, other.default) == (first.annotation, first.default)
        for other in others
    )


def _table(model: Model, keys: Sequence[str], places: Mapping[Model, str]) -> list[str]:
    said = meanings(model)
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        field = model.model_fields[key]
        cells = (f"`{key}`", type_of(field, places), default_of(field), said.get(key, ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _drawn(docstring: str | None) -> list[str]:
    """The table that a module's docstring draws."""
    return [line.strip() for line in (docstring or "").splitlines() if line.strip().startswith("|")]


if __name__ == "__main__":
    for _argument in sys.argv[1:] or ["docs/recipes.md"]:
        write_reference(Path(_argument))
