"""What a recipe may and may not say of its student."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from meddistill.errors import LicenceError
from meddistill.students.config import StudentConfig, TextTower


def test_config_needs_no_torch() -> None:
    code = (
        "import sys, meddistill.students.config, meddistill.students.metadata; print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"


def test_two_architectures_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"must name one of .*got preset and image_tower"):
        StudentConfig(preset="tiny", image_tower="resnet18")


def test_an_unknown_licence_is_refused() -> None:
    with pytest.raises(LicenceError, match="Apache-9"):
        StudentConfig(preset="tiny", init_licence="Apache-9")


def test_pretrained_text_needs_a_folder() -> None:
    with pytest.raises(ValidationError, match=r"`text\.hf` must be a folder"):
        StudentConfig(preset="tiny", text=TextTower(hf_weights="pretrained"))


@pytest.mark.parametrize("field", [{"image_size": 8}, {"embed_dim": 0}, {"text": {"context_length": 2}}])
def test_sizes_have_bounds(field: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StudentConfig.model_validate(field)
