"""How the JSON files of a bundle are read."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from meddistill.bundle_format import FORMAT, MANIFEST, VERSION, Manifest
from meddistill.errors import BundleError
from meddistill.file_kinds import absent, why_not_json

MAX_JSON_BYTES = 64 << 20

Model = TypeVar("Model", bound=BaseModel)


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
    path = folder / MANIFEST
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        msg = f'`{path}` must have `"format": "{FORMAT}"`. Name a bundle\'s folder.'
        raise BundleError(msg)
    if content.get("version") != VERSION:
        msg = f"`{path}` must have version {VERSION}; got {content.get('version')!r}. Update MedDistill."
        raise BundleError(msg)
    return parse(Manifest, content, path)
