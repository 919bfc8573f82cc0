"""The catalogue: complete, loadable as recipe entries, and honest on licences."""

import pytest
import yaml
from pydantic import TypeAdapter

from meddistill.errors import TeacherError
from meddistill.licences import KNOWN, refusals
from meddistill.teachers.catalogue import CatalogueEntry, catalogue, find_entry
from meddistill.teachers.config import TeacherConfig

ENTRIES = dict(catalogue())


def test_the_teachers_of_the_published_systems_are_there() -> None:
    nine = {key for key, entry in ENTRIES.items() if "mmkd_clip" in entry.systems}
    assert nine == {
        "biomedclip",
        "quiltnet",
        "genmedclip",
        "bmc_clip",
        "unimed_clip",
        "pubmedclip",
        "plip",
        "pmc_clip",
        "medclip",
    }
    assert {key for key, entry in ENTRIES.items() if "vfss_agglomerate" in entry.systems} == {
        "medclip",
        "rad_dino",
        "medsam",
    }
    assert {"conch", "medsiglip"} <= set(ENTRIES)


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_entries_agree_with_themselves(key: str) -> None:
    entry = ENTRIES[key]
    assert (entry.image_dim is not None) == ("image_embedding" in entry.capabilities)
    assert (entry.text_dim is not None) == ("text_embedding" in entry.capabilities)
    assert (entry.context_length is not None) == ("text_embedding" in entry.capabilities)
    assert (entry.patch_dim is not None) == ("patch_tokens" in entry.capabilities)
    assert entry.licence in KNOWN.values()
    assert entry.url.startswith("https://")
    assert entry.needs_wrapper == (entry.config.kind == "python")


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_recipe_entries_parse_back(key: str) -> None:
    text = ENTRIES[key].recipe_entry()
    assert text.startswith("kind: ")
    assert TypeAdapter(TeacherConfig).validate_python(yaml.safe_load(text)) == ENTRIES[key].config


@pytest.mark.parametrize(
    ("key", "permissive", "research"),
    [
        ("biomedclip", True, True),
        ("unimed_clip", False, True),
        ("conch", False, False),
        ("medclip", False, False),
        ("mmkd_clip", False, False),
        ("medsiglip", False, False),
    ],
)
def test_policies(key: str, permissive: bool, research: bool) -> None:
    terms = ENTRIES[key].licence
    assert (not refusals("permissive", terms), not refusals("research", terms)) == (permissive, research)


def test_find_entry() -> None:
    assert isinstance(find_entry("medsam"), CatalogueEntry)
    with pytest.raises(TeacherError, match=r"one of biomedclip, .*; got 'medsan'"):
        find_entry("medsan")
