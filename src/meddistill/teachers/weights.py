"""Weight files: which ones a folder's model is in, and that they hold weights and nothing that runs."""

import argparse
import pickle
import pickletools
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from meddistill.errors import TeacherError, one_line
from meddistill.files import printable
from meddistill.weight_formats import Format, NotWeightsError, shards_of, weight_format, why_torch_cannot

PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt")
_SUFFIXES: Final = (".safetensors", *PICKLES)
_SUFFIX_OF: Final[dict[Format, str]] = {"safetensors": ".safetensors"}
_REFUSED_BY_TORCH: Final = re.compile(r"(Unsupported \w+: \S+ \S+|WeightsUnpickler error: [^.]+)")
# Opcodes that name a class, a function, or an object kept elsewhere.
_NAMING: Final = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
# The opcode that frames protocols 4 and 5, the default of `pickle.dump`.
_NEWER_PICKLE: Final = re.compile(r"Unsupported operand 149\b")


def weight_files(folder: Path, *, preferred: Sequence[str]) -> tuple[Path, ...]:
    """The files of `folder` that hold the model, checked by `check_weights`.

    `preferred` are file names or patterns in falling preference; the first that matches wins, with all
    files it matches (shards). Without a match, the shards of the folder's only index, else its only weight
    file.

    Raises
    ------
    TeacherError
        If there is no weight file, if it is unclear which one is meant, or if one is not plain weights.
    """
    paths = next((files for pattern in preferred if (files := sorted(folder.glob(pattern)))), None)
    if paths is None:
        files = sorted(path for path in folder.iterdir() if path.is_symlink() or path.is_file())
        paths = sorted(folder.glob("*.index.json")) or [path for path in files if path.suffix in _SUFFIXES]
        paths = paths or [path for path in files if _holds_weights(path)]
        if len(paths) != 1:
            names = ", ".join(path.name for path in paths) or "none"
            do = "Rename the right file to the first of these." if paths else "Copy the whole folder."
            msg = (
                f"`{folder.name}` must hold its weights in one of {', '.join(preferred)}, or in a single "
                f"weight file; got {names}. {do}"
            )
            raise TeacherError(msg)
    return tuple(part for path in paths for part in checked_weights(path))


def _holds_weights(path: Path) -> bool:
    """Whether a file holds weights though its name does not say so."""
    try:
        return weight_format(path) != "pickle"
    except NotWeightsError:
        return False


def checked_weights(path: Path) -> tuple[Path, ...]:
    """The file itself, or the shards that it lists, each checked by `check_weights`."""
    try:
        parts = shards_of(path)
    except NotWeightsError as refused:
        msg = f"`{path.name}` {refused}"
        raise TeacherError(msg) from refused
    for part in parts:
        if part != path and not part.exists() and not part.is_symlink():
            msg = (
                f"`{part.name}` must lie beside `{path.name}`, which lists it; got no such file. Fetch or "
                "copy it too."
            )
            raise TeacherError(msg)
        check_weights(part)
    return parts


def check_weights(path: Path) -> Format:
    """Refuse a file that holds no weights, is not whole, or would run code when it is loaded.

    What it is shows by its content, whatever its name. Safetensors are opened, so that one that was cut is
    found. Pickles are read with torch's `weights_only` reader, which builds tensors and plain containers and
    nothing else; nothing is loaded with the full reader anywhere. Tensors are mapped, not read, where the
    file's format allows it.
    """
    try:
        kind = weight_format(path)
        if kind == "safetensors":
            with safe_open(path, framework="pt") as file:
                file.keys()
        else:
            _read_pickle(path)
    except NotWeightsError as refused:
        msg = f"`{path.name}` {refused}"
        raise TeacherError(msg) from refused
    except pickle.UnpicklingError as error:
        raise _unpickled(path, error) from error
    except SafetensorError as error:
        msg = (
            f"`{path.name}` must hold tensors that this version of safetensors can read; got "
            f"{one_line(error)}. Update safetensors, or save it anew."
        )
        raise TeacherError(msg) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        msg = f"`{path.name}` {why_torch_cannot(path, error)}"
        raise TeacherError(msg) from error
    return kind


@contextmanager
def as_one_file(parts: Sequence[Path]) -> Iterator[Path]:
    """The weights of `parts` as one file whose suffix fits its content, for libraries that go by suffixes.

    A link where a name does not fit; a file of its own where there are several parts. Gone afterwards.
    """
    kind = weight_format(parts[0])
    suffix = _SUFFIX_OF.get(kind, ".pt")
    named = parts[0].suffix if parts[0].suffix in _SUFFIXES else ""
    fits = bool(named) and (named == ".safetensors") == (kind == "safetensors") and _is_utf8(parts[0])
    if len(parts) == 1 and fits:
        yield parts[0]
        return
    with tempfile.TemporaryDirectory(prefix="meddistill-") as folder:
        path = Path(folder) / f"weights{suffix}"
        if len(parts) == 1:
            path.symlink_to(parts[0].resolve())
        elif kind == "safetensors":
            save_file({name: value for part in parts for name, value in load_file(part).items()}, path)
        else:
            torch.save({name: value for part in parts for name, value in _loaded(part).items()}, path)
        yield path


def _is_utf8(path: Path) -> bool:
    """Whether libraries that take names in UTF-8 only can open the file."""
    return printable(str(path)) == str(path)


def _loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _unpickled(path: Path, error: pickle.UnpicklingError) -> TeacherError:
    said = str(error)
    if "truncated" in said:
        return TeacherError(f"`{path.name}` {why_torch_cannot(path, error)}")
    if _NEWER_PICKLE.search(said) and _builds_plain_values(path):
        msg = (
            f"`{path.name}` must hold weights as torch saves them; got a pickle of a newer protocol than "
            "torch's reader of plain weights knows. It was not loaded. Save its tensors with torch.save, or "
            "as safetensors, where you trust it."
        )
        return TeacherError(msg)
    named = _REFUSED_BY_TORCH.search(" ".join(said.split()))
    reason = named[0] if named else "what torch's reader of plain weights refuses"
    msg = (
        f"`{path.name}` must hold plain weights; it holds Python objects that would run code when loaded "
        f"({reason}). It was not loaded. Take the model's .safetensors, or convert the file where you trust "
        "it."
    )
    return TeacherError(msg)


def _builds_plain_values(path: Path) -> bool:
    """Whether a pickle names no class and no function, by its opcodes; nothing of it is executed."""
    try:
        with path.open("rb") as file:
            return not any(code.name in _NAMING for code, _, _ in pickletools.genops(file))
    except Exception:  # whatever pickletools meets in what is no pickle
        return False


def _read_pickle(path: Path) -> None:
    # timm's own training checkpoints carry their arguments as a Namespace, which is plain data.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            torch.load(path, map_location="meta", weights_only=True, mmap=True)
        except (RuntimeError, UnicodeEncodeError) as error:  # the latter of a name that is no UTF-8
            if isinstance(error, RuntimeError) and "mmap" not in str(error):
                raise
            torch.load(path, map_location="meta", weights_only=True)
