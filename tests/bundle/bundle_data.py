"""What the tests of bundles share besides fixtures."""

from meddistill.imaging import InputSpec
from meddistill.licences import KNOWN
from meddistill.teachers.card import TeacherCard

SECRET_CAPTION = "zebrafish caption of patient Quux"
SECRET_PATIENT = "patient-4711"
SPEC = InputSpec(height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def card(name: str, licence: str, **fields: object) -> TeacherCard:
    return TeacherCard.model_validate(
        {
            "id": name,
            "kind": "open_clip",
            "source": "hf-hub:someone/medical-clip",
            "library": "open_clip 3",
            "weights_sha256": "ab" * 32,
            "licence": KNOWN[licence],
            "input": SPEC,
            "signals": {"image", "text"},
            "parameters": 1000,
            **fields,
        }
    )
