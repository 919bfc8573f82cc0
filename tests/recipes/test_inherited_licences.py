"""What a student inherits from teachers, initial and text weights and data, and what each policy lets in."""

import json
from pathlib import Path
from typing import Any

import pytest

from meddistill.errors import LicenceError
from meddistill.licences import LicenceTerms, Policy, enforce
from meddistill.progress import SilentProgress
from meddistill.recipes.load import load_recipe
from meddistill.recipes.run_folder import RunFolder
from meddistill.recipes.session import Session
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig
from meddistill.students.folder import save_student
from meddistill.students.metadata import Provenance, read_metadata
from meddistill.training.checkpoint import MANIFEST, Checkpoints
from recipe_data import LIGHT, do_run, recipe, write_yaml
from tiny_teachers import save_bert

TEXT = {"hf": "./bert", "hf_weights": "pretrained"}
INHERITED = {
    "general": {
        "teachers": {**recipe()["teachers"], "general": {"kind": "transformers", "model": "teachers/general"}}
    },
    "initial weights": {"student": {"init": "first"}},
    "text weights": {"student": {"preset": "tiny", "text": TEXT}},
    "our archive": {"data": {**recipe()["data"], "licences": {"our archive": "unknown"}}},
}


def components(place: Path, **changes: Any) -> dict[str, LicenceTerms]:
    path = write_yaml(place / "recipe.yaml", {**recipe(), "evaluate": None, **changes})
    return Session(load_recipe(path), RunFolder(place / "out"), progress=SilentProgress()).licence_components


@pytest.mark.parametrize("source", sorted(INHERITED))
@pytest.mark.parametrize("policy", ["permissive", "research", "any"])
def test_an_unknown_licence_under_each_policy(tmp_path: Path, source: str, policy: Policy) -> None:
    parts = components(tmp_path, **INHERITED[source])
    name = "initial weights" if source == "text weights" else source
    assert parts[name].name == "unknown"
    assert {each.name for key, each in parts.items() if key != name} == {"MIT"}
    for gate in ("extract", "train", "export"):
        if policy == "any":
            assert enforce(policy, parts, gate=gate).name == "MIT AND unknown"
        else:
            with pytest.raises(LicenceError, match=rf"{name} \(unknown\): .*is unknown"):
                enforce(policy, parts, gate=gate)


@pytest.mark.parametrize(
    ("student", "licence", "allowed"),
    [
        ({"init": "first", "init_licence": "CC-BY-NC-4.0"}, "CC-BY-NC-4.0", {"research", "any"}),
        ({"init": "first", "init_licence": "MIT"}, "MIT", {"permissive", "research", "any"}),
        ({"init": "first", "init_licence": "CC-BY-NC-ND-4.0"}, "CC-BY-NC-ND-4.0", {"any"}),
        (
            {
                "preset": "tiny",
                "text": {"hf": "./bert", "hf_weights": "pretrained", "hf_licence": "CC-BY-NC-4.0"},
            },
            "CC-BY-NC-4.0",
            {"research", "any"},
        ),
        (
            {"preset": "tiny", "init_licence": "MIT", "text": TEXT},
            "unknown",
            {"any"},
        ),
    ],
)
def test_a_stated_licence_of_initial_weights_decides(
    tmp_path: Path, student: dict[str, Any], licence: str, allowed: set[str]
) -> None:
    parts = components(tmp_path, student=student)
    assert parts["initial weights"].name == licence
    for policy in ("permissive", "research", "any"):
        if policy in allowed:
            enforce(policy, parts, gate="train")
        else:
            with pytest.raises(LicenceError, match="initial weights"):
                enforce(policy, parts, gate="train")


def test_the_licences_of_initial_weights_reach_every_file(
    own_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "remove_all", lambda _: None)  # a finished stage keeps none
    world = own_world.parent
    save_bert(world / "bert")
    first = build_student(StudentConfig(open_clip="vit.json"), base=world, seed=1)
    save_student(first, world / "first", provenance=Provenance())
    student = {
        "init": "first",
        "init_towers": "image",
        "init_licence": "CC-BY-NC-4.0",
        "text": {
            "hf": "./bert",
            "hf_weights": "pretrained",
            "hf_licence": "Apache-2.0",
            "context_length": 20,
        },
    }
    stages = [{**stage, "epochs": 1} for stage in recipe()["stages"]]
    content = {
        **recipe(),
        "data": {**recipe()["data"], "licences": {"our archive": "MIT"}},
        "student": student,
        "stages": stages,
        "evaluate": None,
        "licence_policy": "research",
    }
    do_run(write_yaml(own_world, content), tmp_path / "out", LIGHT, until="report")
    # Without teachers' pretraining data, that of the student is its own.
    assert '<td class="wrap">our archive</td>' in (tmp_path / "out" / "report.html").read_text()
    joined = "Apache-2.0 AND CC-BY-NC-4.0 AND MIT"
    metadata = read_metadata(tmp_path / "out" / "student")
    assert metadata.provenance.initial_weights.name == "Apache-2.0 AND CC-BY-NC-4.0"
    assert (metadata.licence.name, metadata.licence.commercial) == (joined, False)
    checkpoints = sorted((tmp_path / "out" / "stages" / "distill").rglob(MANIFEST))
    licences = json.loads(checkpoints[-1].read_text())["licences"]
    assert licences["initial weights"]["name"] == "Apache-2.0 AND CC-BY-NC-4.0"
    card = (tmp_path / "out" / "bundle" / "README.md").read_text()
    assert "initial weights" in card
    assert "CC-BY-NC-4.0" in card
    texts = {path.stem: path.read_text() for path in (tmp_path / "out" / "bundle" / "LICENSES").iterdir()}
    assert "Brought by: initial weights." in texts["Apache-2.0_AND_CC-BY-NC-4.0"]
    assert "commercial use: no" in texts["STUDENT"]
    content["licence_policy"] = "permissive"
    with pytest.raises(LicenceError, match=r"initial weights \(Apache-2\.0 AND CC-BY-NC-4\.0\): comm"):
        do_run(write_yaml(own_world, content), tmp_path / "out", until="export")
