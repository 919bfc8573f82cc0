"""Files of weights by their content: which format, whether whole, and what else may lie under such a name.

A name says little: the hub's cache stores blobs under their hash, `.bin` and `.pt` may hold anything. Loads
no torch. Sources: https://huggingface.co/docs/safetensors (header), torch.serialization (magic number, zip).
"""

import json
import zipfile
from pathlib import Path
from typing import Any, Final, Literal

from meddistill.errors import one_line
from meddistill.file_kinds import Met, met, stand_in, unreadable

Format = Literal["safetensors", "torch", "old_torch", "pickle"]
_AGAIN: Final = "Fetch or copy it again."
_CONVERT: Final = "Take the model's .safetensors, or convert the file where you trust it"
_HEAD: Final = 1024
_LONGEST_HEADER: Final = 100_000_000  # what safetensors allows
_LENGTH: Final = 8
_PICKLE: Final = b"\x80"
_MAGIC_OF_TORCH: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OF_THE_ARCHIVE: Final = ("input_resolution", "context_length", "vocab_size")
_TORCHSCRIPT: Final = Met(
    "a TorchScript archive, which is a program with its weights (OpenAI's own files are such)",
    f"{_CONVERT}: torch.save({{k: v for k, v in torch.jit.load(FILE, 'cpu').state_dict().items() if k not in "
    f"{_OF_THE_ARCHIVE}}}, OTHER).",
)
_LEGACY_TAR: Final = Met(
    "torch's tar format of before 2017, whose reader runs code",
    f"{_CONVERT}: torch.save(torch.load(FILE, 'cpu', weights_only=False), OTHER).",
)


class NotWeightsError(Exception):
    """A file that holds no weights that can be read: `rule`, and in `got` what was met and what helps."""

    def __init__(self, rule: str, got: Met) -> None:
        self.rule = rule
        self.got = got
        super().__init__(f"must {rule}; got {got}")


def weight_format(path: Path) -> Format:
    """The format of a file of weights.

    Raises NotWeightsError for anything else, and for one that is shorter than it says. `pickle` are the
    pickles of other programs, of which a reader may take those that hold plain values.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        size = path.stat().st_size
    except OSError:
        raise _another(met(path)) from None
    if not _is_safetensors(head):
        return _of_torch(path, head)
    needed, problem = _length_of_safetensors(path, head)
    if problem:
        raise _not_whole(Met(f"a header of safetensors that is damaged ({problem})", _AGAIN))
    if size < needed:
        raise _not_whole(Met(f"{size:,} of {needed:,} bytes", _AGAIN))
    return "safetensors"


def shards_of(path: Path) -> tuple[Path, ...]:
    """The files with the weights of `path`: those that it lists if it is an index of shards, else itself.

    Raises NotWeightsError for an index that lists files outside its folder, or none.
    """
    if not path.is_file():
        return (path,)
    with path.open("rb") as file:
        begins = file.read(_HEAD).lstrip()[:1]
    if begins != b"{":
        return (path,)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({str(name) for name in listed})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise _another(met(path)) from None
    if not names or any(Path(name).name != name for name in names):
        outside = Met(
            "an index that lists none, or some elsewhere", "Take the index that came with the shards."
        )
        rule = "list shards of its own folder"
        raise NotWeightsError(rule, outside)
    return tuple(path.with_name(name) for name in names)


def why_torch_cannot(path: Path, error: Exception) -> NotWeightsError:
    """What a failure of torch's reader shows of a file that looks like one of its own."""
    said = one_line(error, longest=160)
    if isinstance(error, EOFError) or any(sign in said for sign in ("unexpected EOF", "was truncated")):
        return _not_whole(Met(f"one that ends too early ({said})", _AGAIN))
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
            bad = None
        if bad is not None:
            return _not_whole(Met(f"one whose checksum of {Path(bad).name} does not fit", _AGAIN))
    do = "Update torch, or convert it to safetensors with the version that saved it."
    rule = "hold weights that this version of torch can read"
    return NotWeightsError(rule, Met(f"{type(error).__name__}: {said}", do))


def _is_safetensors(head: bytes) -> bool:
    length = int.from_bytes(head[:_LENGTH], "little")
    return head[_LENGTH : _LENGTH + 1] == b"{" and 2 <= length <= _LONGEST_HEADER


def _length_of_safetensors(path: Path, head: bytes) -> tuple[int, str]:
    """How many bytes the header promises; and what is wrong with the header, "" where nothing is."""
    length = int.from_bytes(head[:_LENGTH], "little")
    with path.open("rb") as file:
        file.seek(_LENGTH)
        header = file.read(length)
    if len(header) < length:
        return _LENGTH + length, ""
    try:
        entries: dict[str, Any] = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        return _LENGTH + length + int(max(ends, default=0)), ""
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return 0, type(error).__name__


def _of_torch(path: Path, head: bytes) -> Format:
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path)
    if head[257:262] == b"ustar" or head.startswith(b"sys_info\0"):
        raise _another(_LEGACY_TAR)
    if head.startswith(_PICKLE):
        return "old_torch" if head[2:].startswith(_MAGIC_OF_TORCH) else "pickle"
    raise _another(met(path))


def _of_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except OSError as error:
        raise _another(unreadable(error)) from None
    except (zipfile.BadZipFile, ValueError):
        raise _not_whole(Met("a zip archive without its end", _AGAIN)) from None
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner and ("constants.pkl" in inner or any(name.startswith("code/") for name in inner)):
        raise _another(_TORCHSCRIPT)
    if "data.pkl" in inner:
        return "torch"
    if any(name.endswith(".npy") for name in names):
        arrays = Met("numpy arrays (.npz)", "Take the model's .safetensors, or convert it.")
        raise _another(arrays)
    held = ", ".join(sorted(names)[:3]) or "nothing"
    raise _another(Met(f"a zip archive that holds {held}", "Unpack it."))


def _another(kind: Met) -> NotWeightsError:
    rule = "hold weights, as safetensors or as torch saves them"
    return NotWeightsError(rule, kind)


def _not_whole(kind: Met) -> NotWeightsError:
    rule = "be a whole file of weights"
    return NotWeightsError(rule, kind)


def pointers_in(folder: Path) -> list[str]:
    """Names of files in a folder that are pointers of Git or empty, not the files themselves."""
    names = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            small = path.is_file() and path.stat().st_size < _HEAD
            head = path.read_bytes() if small else b" "
        except OSError:
            continue
        instead = stand_in(head, size=len(head)) if small else None
        if instead is not None and "page" not in instead.what:
            names.append(path.name)
    return names


def snapshot_in(folder: Path) -> Path | None:
    """The files of a model's folder in the hub's cache: of `main`, or the only snapshot; None for others."""
    snapshots = [each for each in (folder / "snapshots").glob("*") if each.is_dir()]
    main = folder / "refs" / "main"
    if main.is_file():
        named = folder / "snapshots" / main.read_text().strip()
        return named if named in snapshots else None
    return snapshots[0] if len(snapshots) == 1 else None
