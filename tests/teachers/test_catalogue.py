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
    assert ("image" in entry.dims) == ("image" in entry.signals)
    assert ("text" in entry.dims) == ("text" in entry.signals)
    assert (entry.context_length is not None) == ("text" in entry.signals)
    assert ("patches" in entry.dims) == ("patches" in entry.signals)
    assert (entry.image_size is not None) == ("image" in entry.signals)
    assert (entry.data_certainty is not None) >= bool(entry.config.pretraining_data)
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


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_every_entry_says_how_to_get_it(key: str) -> None:
    entry, text = ENTRIES[key], ENTRIES[key].how_to_get("teachers/here")
    assert entry.needs_wrapper <= (entry.hub_id is None)
    if entry.hub_id is not None:
        assert f"hf download {entry.hub_id} --local-dir teachers/here" in text
    assert text.strip()
    assert ("gated" in text or "access" in text) == entry.gated


def test_the_widths_of_mmkd_clips_teachers_are_those_of_its_published_features() -> None:
    # From the vectors in the demo data of its repository; MedCLIP is not among them.
    wide = {"bmc_clip", "pmc_clip"}
    nine = [key for key, entry in ENTRIES.items() if "mmkd_clip" in entry.systems]
    assert {key: ENTRIES[key].dims["image"] for key in nine} == {
        key: 768 if key in wide else 512 for key in nine
    }


def test_data_sets_are_spelt_alike_wherever_they_stand() -> None:
    spellings: dict[str, set[str]] = {}
    for entry in ENTRIES.values():
        for name in entry.config.pretraining_data:
            spellings.setdefault("".join(filter(str.isalnum, name.lower())), set()).add(name)
    assert [names for names in spellings.values() if len(names) > 1] == []


def test_find_entry() -> None:
    assert isinstance(find_entry("medsam"), CatalogueEntry)
    with pytest.raises(TeacherError, match=r"one of biomedclip, .*; got 'medsan'"):
        find_entry("medsan")
