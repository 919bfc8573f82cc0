"""A bundle on disk: what it must hold, and whether it holds it."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from meddistill.bundle_format import (
    IMAGE_MODEL,
    PREPROCESSING,
    PROMPTS,
    TEXT_MODEL,
    TOKENIZER,
    TOWER_FILES,
    Manifest,
    Precision,
    Preprocessing,
    Prompts,
)
from meddistill.errors import BundleError
from meddistill.file_kinds import stand_in, unreadable
from meddistill.runtime.manifest import parse, read_json, read_manifest

REQUIRED = (PREPROCESSING, IMAGE_MODEL, TEXT_MODEL, TOKENIZER)
_SHOWN_MISTAKES = 5
_HEAD = 1024


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Make one with `Bundle.open`."""

    folder: Path
    manifest: Manifest
    preprocessing: Preprocessing

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read a bundle's manifest and check that every file it names is there in its size.

        Hashes are checked when a file is first used, and all of them by `verify`. Raises BundleError for
        what is no bundle, one of another version or kind, and one that is incomplete or leaves its folder.
        """
        manifest = read_manifest(path)
        if manifest.files and not {IMAGE_MODEL, TEXT_MODEL} & manifest.files.keys():
            msg = (
                f"`{path}` must hold ONNX towers, which are what is run here; it was exported without. "
                "Export it again with `bundle: {formats: [open_clip, onnx]}`."
            )
            raise BundleError(msg)
        mistakes = list(_mistakes(path, manifest))
        if mistakes:
            raise _broken(path, mistakes)
        place = path / PREPROCESSING
        _check_hashes(path, manifest, [place.name])
        preprocessing = parse(Preprocessing, read_json(place), place)
        if preprocessing.text.context_length != manifest.context_length:
            raise _broken(path, ["its manifest and preprocessing name different context lengths"])
        return cls(path, manifest, preprocessing)

    def require(self, precision: Precision) -> None:
        """Raise BundleError, with the manifest's reasons, where there are no towers of that precision."""
        files = TOWER_FILES[precision]
        if {files.image, files.text} <= self.manifest.files.keys():
            return
        reasons = self.manifest.int8.left_out_because if self.manifest.int8 is not None else ()
        why = f", left out at export ({'; '.join(reasons)})" if reasons else ""
        msg = (
            f"`{self.folder}` must hold {precision} towers; got none{why}. Take float32, or export it again "
            "with `bundle: {formats: [open_clip, onnx, onnx_int8]}`."
        )
        raise BundleError(msg)

    def verify(self) -> None:
        """Check every file's sha256; raises BundleError naming those that differ."""
        _check_hashes(self.folder, self.manifest, self.manifest.files)

    def file(self, name: str) -> Path:
        """The file of that name in the bundle; raises BundleError if its sha256 is not the manifest's."""
        _check_hashes(self.folder, self.manifest, [name])
        return self.folder / name

    def class_vectors(self, labels: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32] | None:
        """Class vectors `[labels, d]` that the bundle holds for these labels and templates, or None."""
        for task, prompts in self.prompts().items():
            rows = {label: row for row, label in enumerate(prompts.labels)}
            if prompts.templates == tuple(templates) and rows.keys() >= set(labels):
                return self.task_vectors(task)[[rows[label] for label in labels]]
        return None

    def prompts(self) -> dict[str, Prompts]:
        """The labels and prompts that the bundle holds, by task."""
        files = {
            PurePosixPath(name): self.file(name) for name in sorted(self.manifest.files) if _of_task(name)
        }
        return {name.stem: parse(Prompts, read_json(path), path) for name, path in files.items()}

    def task_vectors(self, task: str) -> NDArray[np.float32]:
        """Class vectors `[labels, d]` of a task of `prompts`."""
        prompts = self.prompts()[task]
        lengths = {len(vector) for vector in prompts.vectors}
        if len(prompts.vectors) != len(prompts.labels) or lengths != {self.manifest.embed_dim}:
            must = f"{PROMPTS}/{task}.json must hold one vector of {self.manifest.embed_dim} a label"
            raise _broken(self.folder, [must])
        return np.asarray(prompts.vectors, dtype=np.float32)


def _of_task(name: str) -> bool:
    return name.startswith(f"{PROMPTS}/") and name.endswith(".json")


def _mistakes(folder: Path, manifest: Manifest) -> Iterator[str]:
    yield from (f"{name} is not in the manifest" for name in REQUIRED if name not in manifest.files)
    for name, entry in manifest.files.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name:
            yield "a file name leaves the bundle"
            continue
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing" + (", a link to a file that is not there" if path.is_symlink() else "")
        elif (size := path.stat().st_size) != entry.bytes:
            with path.open("rb") as file:
                instead = stand_in(file.read(_HEAD), size=size)
            pointer = f" ({instead.what})" if instead is not None and size else ""
            yield f"{name} has {size:,} bytes instead of {entry.bytes:,}{pointer}"


def _broken(folder: Path, mistakes: Sequence[str]) -> BundleError:
    shown = "; ".join(mistakes[:_SHOWN_MISTAKES])
    more = f"; and {len(mistakes) - _SHOWN_MISTAKES} more" if len(mistakes) > _SHOWN_MISTAKES else ""
    do = "Fetch its files with `git lfs pull`" if "Git LFS" in shown else "Copy or export it again"
    msg = f"`{folder}` must be a whole bundle; got: {shown}{more}. {do}."
    return BundleError(msg)


def _check_hashes(folder: Path, manifest: Manifest, names: Iterable[str]) -> None:
    changed = [name for name in names if _sha256(folder / name) != manifest.files[name].sha256]
    if changed:
        raise _broken(folder, [f"{name} has another sha256" for name in changed])


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as refusal:
        msg = f"`{path}` must be readable; got {unreadable(refusal)}"
        raise BundleError(msg) from refusal
