"""Under which terms a student starts."""

from pathlib import Path

from meddistill.errors import CheckpointError, LicenceError
from meddistill.licences import LicenceTerms, join, resolve
from meddistill.students.config import NO_WEIGHTS, StudentConfig
from meddistill.students.initial.folder import ModelFolder
from meddistill.students.metadata import METADATA_FILE, read_metadata
from meddistill.students.paths import resolve_path


def initial_licence(config: StudentConfig, *, base: Path) -> LicenceTerms | None:
    """The terms that initial weights bring along; None for a student that starts from nothing.

    Of `init`: `init_licence`, without it what the folder says by itself (`meddistill.json` of a student, the
    `license` of a timm configuration where it is a known one), without that `unknown`. Of pretrained text
    weights: `text.hf_licence`, without it `unknown`. Of both: their join.
    """
    terms = []
    if config.init != NO_WEIGHTS:
        terms.append(_licence_of_init(config, resolve_path(config.init, base)))
    if config.text.hf_weights == "pretrained":
        terms.append(resolve(config.text.hf_licence))
    return join(terms) if terms else None


def _licence_of_init(config: StudentConfig, folder: Path) -> LicenceTerms:
    if config.init_licence is not None:
        return resolve(config.init_licence)
    if (folder / METADATA_FILE).is_file():
        return read_metadata(folder).licence
    try:
        published = (ModelFolder.read(folder).config or {}).get("pretrained_cfg")
        named = published.get("license") if isinstance(published, dict) else None
        return resolve(named if isinstance(named, str) else None)
    except (CheckpointError, LicenceError):
        return resolve(None)
