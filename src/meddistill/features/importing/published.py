"""The published layout of MMKD-CLIP's features: a folder a sample, a dict of vectors in each.

```
FOLDER/
├── meta.jsonl                           a line a sample: folderid, id, imgpath, txt, available_clips
└── (features/)<folderid>/<id>/
    ├── clips_output.pt                  <Teacher>_img, <Teacher>_txt → float32 [dim], as the teacher gave it
    ├── clips_project_output.pt          the same keys → float32 [512], after the authors' projection
    └── the image
```
Files are read with `weights_only=True`: tensors in plain containers, and nothing that runs code.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from meddistill.arrays import Floats32
from meddistill.data.paths import ImageFolder, PathRefusedError
from meddistill.errors import TableError, TeacherError, one_line
from meddistill.file_kinds import unreadable
from meddistill.imaging import normalize_text
from meddistill.teachers.weights import check_weights

META: Final = "meta.jsonl"
RAW: Final = "clips_output.pt"
PROJECTED: Final = "clips_project_output.pt"
_TEXTS: Final = ("folderid", "id", "imgpath", "txt")
_INSIDE: Final = ("", "features")


class UnusableSampleError(Exception):
    """What a sample's line or file has wrong, in words; caught in this room."""


@dataclass(frozen=True)
class PublishedSample:
    """One line of `meta.jsonl`. `folder` holds its vectors, `teachers` are those that may be asked."""

    line: int
    folder: Path
    image: Path
    text: str
    teachers: tuple[str, ...]

    @property
    def name(self) -> str:
        """The sample in messages: its line, and no word of what it is."""
        return f"line {self.line} (sample {hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]})"


def read_samples(folder: Path) -> list[PublishedSample]:
    """All samples of `meta.jsonl`, in its order.

    Raises
    ------
    TableError
        With every line that is no such row, or whose folder or image is not inside `folder`.
    """
    path, root = folder / META, ImageFolder(folder)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise TableError(
            str(path), [f"must be a readable file of JSON lines; got: {reason}. Name its folder."]
        ) from None
    samples, mistakes = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            samples.append(_sample(number, line, root))
        except UnusableSampleError as error:
            mistakes.append(f"line {number}: {error} Mend the line, or take it out.")
    if mistakes or not samples:
        raise TableError(str(path), mistakes or ["must name a sample; got none. Add a line a sample."])
    return samples


def _sample(number: int, line: str, root: ImageFolder) -> PublishedSample:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        msg = "must be a JSON object; it is not."
        raise UnusableSampleError(msg)
    wrong = [name for name in _TEXTS if not isinstance(row.get(name), str | int) or row[name] == ""]
    teachers = row.get("available_clips")
    if not isinstance(teachers, list) or not all(isinstance(each, str) and each for each in teachers):
        wrong.append("available_clips")
    if wrong:
        msg = f"must have texts in {', '.join(_TEXTS)} and a list in available_clips; got {', '.join(wrong)}."
        raise UnusableSampleError(msg)
    if not normalize_text(str(row["txt"])):
        msg = "`txt` must hold a caption; got an empty one."
        raise UnusableSampleError(msg)
    folder = _folder(root.root, str(row["folderid"]), str(row["id"]))
    image = _image(root, folder, str(row["imgpath"]))
    return PublishedSample(number, folder, image, str(row["txt"]), tuple(dict.fromkeys(teachers or ())))


def _folder(root: Path, *parts: str) -> Path:
    for inside in _INSIDE:
        path = (root / inside).joinpath(*parts).resolve()
        if path.is_relative_to(root) and path != root and path.is_dir():
            return path
    msg = "`folderid`/`id` must name a folder inside the imported one; there is none."
    raise UnusableSampleError(msg)


def _image(root: ImageFolder, folder: Path, cell: str) -> Path:
    """By its path from the root or, where paths begin elsewhere, by its name beside the vectors."""
    beside = str(folder / Path(cell).name)
    for each in (cell, *(str(Path(inside) / cell) for inside in _INSIDE[1:]), beside):
        try:
            return root.find(each)
        except PathRefusedError:
            continue
    msg = "`imgpath` must name an image inside the imported folder; there is none."
    raise UnusableSampleError(msg)


def read_vectors(sample: PublishedSample, file: str) -> dict[str, Floats32]:
    """The vectors of the sample's available teachers by `<Teacher>_img` and `<Teacher>_txt`.

    Raises UnusableSampleError for a file that is missing, cannot be read, holds anything but tensors, or
    lacks one.
    """
    try:
        content = torch.load(sample.folder / file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        msg = f"`{file}` must be there; it is missing."
        raise UnusableSampleError(msg) from None
    except OSError as refusal:
        msg = f"`{file}` must be readable; got {unreadable(refusal)}"
        raise UnusableSampleError(msg) from None
    except Exception as error:  # torch raises pickle, zip, EOF and runtime errors on what is no such file
        raise UnusableSampleError(_why_not(sample.folder / file, error)) from None
    if not isinstance(content, dict):
        msg = f"`{file}` must hold a dict of vectors; got {type(content).__name__}."
        raise UnusableSampleError(msg)
    names = [f"{teacher}_{tower}" for teacher in sample.teachers for tower in ("img", "txt")]
    return {name: _vector(content.get(name), name) for name in names}


def _why_not(path: Path, error: Exception) -> str:
    try:
        check_weights(path)
    except TeacherError as refused:
        return str(refused)
    return f"`{path.name}` must hold tensors that torch can read; got {one_line(error)}. Save it anew."


def _vector(value: Any, name: str) -> Floats32:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        msg = f"`{name}` must be a vector of floats, for it stands in available_clips; it is not."
        raise UnusableSampleError(msg)
    flat = value.squeeze()
    if flat.ndim != 1 or not len(flat) or not torch.isfinite(flat).all() or not flat.any():
        msg = f"`{name}` must be one finite vector other than zero; got shape {list(value.shape)}."
        raise UnusableSampleError(msg)
    return flat.float().numpy()


def dims_of(samples: Sequence[PublishedSample], file: str) -> dict[str, tuple[int, int]]:
    """Each teacher's image and text dims, from the first usable sample that has it."""
    wanted = {teacher for sample in samples for teacher in sample.teachers}
    dims: dict[str, tuple[int, int]] = {}
    for sample in samples:
        if wanted <= dims.keys():
            break
        if set(sample.teachers) <= dims.keys():
            continue
        try:
            vectors = read_vectors(sample, file)
        except UnusableSampleError:
            continue
        for teacher in sample.teachers:
            dims.setdefault(teacher, (len(vectors[f"{teacher}_img"]), len(vectors[f"{teacher}_txt"])))
    return dims
