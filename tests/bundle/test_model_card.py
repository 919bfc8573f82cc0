"""The model card says what must be said, and hubs can read it."""

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_data import SPEC, card
from huggingface_hub import ModelCard

from meddistill.bundle.card import CardFacts, front_matter, model_card
from meddistill.bundle.config import CardNotes
from meddistill.bundle.licence_files import write_licences
from meddistill.bundle_format import Preprocessing, TextPreprocessing
from meddistill.data.known.catalogue import known_sets
from meddistill.data.modalities import medical_modalities
from meddistill.data.phantom.config import MODALITIES
from meddistill.evaluation.base.results import ModelFacts, Result, Results, TaskFacts
from meddistill.imaging import DecodeOptions
from meddistill.licences import KNOWN, LicenceTerms
from meddistill.students.metadata import Provenance, TeacherCredit
from meddistill.students.size import ModelSize


def facts(*licences: str) -> CardFacts:
    cards = tuple(card(f"teacher{number}", name) for number, name in enumerate(licences))
    return CardFacts(
        provenance=Provenance(name="student", teachers=tuple(TeacherCredit.of(each) for each in cards)),
        cards=cards,
        policy="any",
        preprocessing=Preprocessing(
            input=SPEC,
            decode=DecodeOptions(window=(40, 400)),
            text=TextPreprocessing(normalizer="open_clip_lower", context_length=77),
        ),
        size=ModelSize(parameters=7_132_369, megabytes=28.5),
        embed_dim=128,
        lengths=None,
        parity=None,
        int8=None,
        results=None,
        notes=CardNotes(),
    )


@pytest.mark.parametrize(
    ("licences", "told"),
    [
        (("MIT",), {"license": "mit"}),
        (("MIT", "MIT"), {"license": "mit"}),
        (("MIT", "Apache-2.0"), {"license": "other", "license_name": "apache-2.0-and-mit"}),
        (("HAI-DEF",), {"license": "other", "license_name": "hai-def"}),
        ((), {"license": "other", "license_name": "own"}),
    ],
)
def test_front_matter_names_the_licence(licences: tuple[str, ...], told: dict[str, str]) -> None:
    content = front_matter(facts(*licences)).to_dict()
    assert told.items() <= content.items()
    assert content["pipeline_tag"] == "zero-shot-image-classification"
    assert content.get("base_model") == (["someone/medical-clip"] if licences else None)
    assert "model-index" not in content


def test_the_card_of_a_bundle(bundle: Path) -> None:
    loaded = ModelCard.load(bundle / "README.md")
    data = loaded.data.to_dict()
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.8123
    text = loaded.text
    for said in (
        "For research use only.",
        "not a medical device",
        "| findings | balanced_accuracy | 0.812 (0.762-0.862) | no text tower | "
        "radiology 0.700 (0.650-0.750) | 40 | 20 |",
        "skin\\|pipe",
        "commercial use: no",
        "training on outputs: non-commercial",
        "not legal advice",
        "64 x 64 pixels, squash, bicubic",
        "8 longer than 77 tokens",
        "parameters | 7,132,369",
        "someone@example.org",
        "Only phantoms.",
        "Not stated by the makers.",
    ):
        assert said in text, said


def test_without_an_evaluation_the_card_says_so() -> None:
    text = model_card(facts("MIT"))
    assert "Nothing is known of its quality" in text
    assert "centre 40, width 400" in text


def test_only_medical_modalities_make_a_medical_model() -> None:
    known = {name for entry in known_sets().values() for name in entry.modalities} | set(MODALITIES)
    assert known - set(medical_modalities(known)) == {"photograph"}
    mixed = medical_modalities(["photograph", "", "X-ray", "CT", "CT"])
    assert mixed == ("CT", "X-ray")
    medical, other = (replace(facts("MIT"), medical=each) for each in (mixed, ()))
    assert "for medical images (CT, X-ray)" in model_card(medical)
    assert "for medical images" not in model_card(other)
    assert ["medical" in front_matter(each).tags for each in (medical, other)] == [True, False]


def test_licence_files_name_who_brought_what(tmp_path: Path) -> None:
    strange = LicenceTerms(name="../My licence", note="Asked the owner.")
    other = LicenceTerms(name="../my licence", commercial=False)
    components = {"a": KNOWN["MIT"], "b": KNOWN["MIT"], "c": strange, "d": other}
    write_licences(tmp_path, components=components, joined=KNOWN["unknown"])
    written = {path.name: path.read_text() for path in (tmp_path / "LICENSES").iterdir()}
    assert set(written) == {"MIT.txt", ".._My_licence.txt", ".._my_licence-2.txt", "STUDENT.txt"}
    assert "Brought by: a, b." in written["MIT.txt"]
    assert "https://spdx.org/licenses/MIT.html" in written["MIT.txt"]
    assert "Full text: not recorded." in written[".._My_licence.txt"]
    assert "commercial use: no" in written[".._my_licence-2.txt"]


def test_every_task_is_an_entry_of_its_own_in_the_front_matter() -> None:
    tasks = {"findings": 0.81, "modality": 0.97}
    shared = {"family": "zero_shot", "metric": "balanced_accuracy", "main": True, "library": "", "seed": 0}
    results = Results(
        suite="s",
        suite_sha256="",
        resamples=20,
        seed=0,
        level=0.95,
        rule="",
        versions={},
        models=(ModelFacts(name="student", role="student", fingerprint="", has_text=True),),
        tasks=tuple(
            TaskFacts(
                name=name,
                family="zero_shot",
                main_metric="balanced_accuracy",
                n=1,
                patients=1,
                modalities={},
                include_in_mean=True,
                sha256="",
            )
            for name in tasks
        ),
        results=tuple(
            Result(model="student", role="student", task=name, value=value, **shared)
            for name, value in tasks.items()
        ),
    )
    entries = front_matter(replace(facts("MIT"), results=results)).to_dict()["model-index"][0]["results"]
    told = {each["dataset"]["name"]: [metric["value"] for metric in each["metrics"]] for each in entries}
    assert told == {name: [value] for name, value in tasks.items()}
