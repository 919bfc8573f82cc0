"""The JSON files of a bundle, and how they are read."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from meddistill.errors import BundleError
from meddistill.file_kinds import absent, why_not_json
from meddistill.imaging import DecodeOptions, InputSpec
from meddistill.licences import LicenceTerms

FORMAT, VERSION = "meddistill-bundle", 1
MAX_JSON_BYTES = 64 << 20

Model = TypeVar("Model", bound=BaseModel)
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    # Keys that a later writer adds are no mistake; `version` says when a reader must know more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class FileEntry(_Part):
    """What a file of the bundle is to be."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Manifest(_Part):
    """`manifest.json`: what the bundle is and the hash of every other file in it.

    `logit_scale` multiplies cosines before the softmax (it is not a logarithm). Without `text_trained`
    nothing has trained the text tower: only image embeddings mean anything.
    """

    format: Literal["meddistill-bundle"]
    version: Literal[1]
    kind: Literal["dual_encoder"]
    name: str
    files: dict[str, FileEntry]
    logit_scale: PositiveFloat
    embed_dim: int = Field(gt=0)
    context_length: int = Field(gt=0)
    text_trained: bool = True
    licence: LicenceTerms
    created_with: str


class TextPreprocessing(_Part):
    """What is done to a text before `tokenizer.json` sees it: `imaging.normalize_text`, by its name."""

    normalizer: Literal["open_clip_lower"]
    context_length: int = Field(gt=0)


class Preprocessing(_Part):
    """`preprocessing.json`: from a file to the raster, and from a text to its tokens."""

    input: InputSpec
    decode: DecodeOptions
    text: TextPreprocessing


class Prompts(_Part):
    """`prompts/*.json`: class vectors made at export, one row a label, over the ensemble of templates."""

    labels: tuple[str, ...]
    templates: tuple[str, ...]
    vectors: tuple[tuple[FiniteFloat, ...], ...]


def read_json(path: Path) -> Any:
    """The content of a JSON file; BundleError where it is missing, too large or no JSON."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            msg = f"`{path}` must have at most {MAX_JSON_BYTES:,} bytes. Export the bundle again."
            raise BundleError(msg)
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"`{path}` must exist; got {absent(path).what}. Name a bundle's folder, or export it again."
        raise BundleError(msg) from None
    except (OSError, ValueError, RecursionError) as error:
        msg = f"`{path}` must be readable JSON; got {why_not_json(path, error)}"
        raise BundleError(msg) from None


def parse(model: type[Model], content: Any, path: Path) -> Model:
    """`content` as `model`; BundleError names each key that breaks it."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in error.errors()
        ]
        msg = (
            f"`{path}` must follow the bundle format; got {'; '.join(mistakes[:5])}. Export the bundle again."
        )
        raise BundleError(msg) from None


def read_manifest(folder: Path) -> Manifest:
    """`manifest.json`, once its format, version and kind are known to be readable here."""
    path = folder / "manifest.json"
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        msg = f'`{path}` must say `"format": "{FORMAT}"`. Name a bundle\'s folder.'
        raise BundleError(msg)
    if content.get("version") != VERSION:
        msg = f"`{path}` must have version {VERSION}; got {content.get('version')!r}. Update MedDistill."
        raise BundleError(msg)
    return parse(Manifest, content, path)
