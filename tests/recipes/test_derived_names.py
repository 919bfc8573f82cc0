"""A store of others keeps its derived teachers: a fusion stage replaces those of its own sources alone."""

from pathlib import Path

import numpy as np
import pytest

from coloured_world import BY_STAGE, WITHIN
from meddistill.features.format import OutputManifest
from meddistill.features.writer import StoreWriter
from meddistill.licences import KNOWN
from meddistill.recipes.derived import SOURCES_JOINED, names_taken
from meddistill.recipes.load import load_recipe
from meddistill.teachers.card import DERIVED, TeacherCard
from planted_store import OPTIONS, Planted, planted_store
from recipe_data import RESNET, write_yaml

EXTRACTED = ("warm", "cold", "other")


def _store_with(folder: Path, derived: tuple[str, ...]) -> None:
    """A store with a teacher `within` that was derived from these."""
    rows = np.ones((2, 4), np.float32)
    store = planted_store(folder, dict.fromkeys(EXTRACTED, Planted(rows, rows)), [(0, 0), (1, 1)], ["", ""])
    card = TeacherCard(
        id="within",
        kind=DERIVED,
        source=SOURCES_JOINED.join(derived),
        library="tests",
        weights_sha256="0" * 64,
        licence=KNOWN["MIT"],
        dims={"image": 4, "text": 4},
        signals=frozenset({"image", "text"}),
        parameters=1,
    )
    layout = OutputManifest(shape=(4,), dtype="float32")
    with StoreWriter.open(folder, store.manifest.settings, OPTIONS) as writer:
        writer.replace("within", card, {"image": layout, "text": layout})


@pytest.mark.parametrize(
    ("there", "fused", "refused"),
    [
        (("warm", "cold"), ("warm", "cold"), False),
        (("warm", "cold"), EXTRACTED, False),  # of whose sources one was left out
        (("warm", "cold"), ("warm", "other"), True),
        (EXTRACTED, ("warm", "cold"), True),
    ],
)
def test_a_derived_teacher_of_other_sources_is_kept(
    tmp_path: Path, there: tuple[str, ...], fused: tuple[str, ...], *, refused: bool
) -> None:
    _store_with(tmp_path / "store", there)
    recipe = {
        "name": "given",
        "data": {"train": {"table": "pairs.csv", "text": "text"}},
        "teachers": {name: {"kind": "stored", "store": "store", "licence": "MIT"} for name in EXTRACTED},
        "student": RESNET,
        "stages": [{**WITHIN, "teachers": list(fused)}, BY_STAGE[1]],
    }
    found = names_taken(load_recipe(write_yaml(tmp_path / "recipe.yaml", recipe)).recipe, base=tmp_path)
    told = [
        "stage within: `name` must be new in `store`, or that of what it has of these teachers; got one that "
        f"was derived from {SOURCES_JOINED.join(there)} there. Rename the stage."
    ]
    assert found == (told if refused else [])
