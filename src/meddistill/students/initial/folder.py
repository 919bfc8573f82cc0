"""A folder to start from, by what its files hold: which library's it is, and its tensors' names."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from meddistill.errors import CheckpointError, one_line
from meddistill.files import utf8_alias
from meddistill.weight_formats import NotWeightsError, pointers_in, shards_of, snapshot_in, weight_format

OPEN_CLIP_CONFIG: Final = "open_clip_config.json"
_CONFIG: Final = "config.json"
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_INDEX: Final = "model.safetensors.index.json"
_SHOWN: Final = 5
# Tied weights are one tensor under two names, which safetensors refuses.
_CONVERSION: Final = (
    "python -c 'import torch, safetensors.torch as library; "
    "library.save_file({{name: each.clone().contiguous() for name, each in "
    'torch.load("{}", "cpu", weights_only=True).items()}}, "{}")\''
)


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """The JSON configurations of a folder, None where a file is absent; `key` names it in a recipe."""

    path: Path
    key: str
    open_clip: dict[str, Any] | None
    config: dict[str, Any] | None

    @classmethod
    def read(cls, path: Path, *, key: str = "init") -> "ModelFolder":
        """The folder at `path`; raises CheckpointError where it is none or its JSON cannot be read."""
        if not path.is_dir():
            msg = f"`{key}` must be a folder; got {path}. Relative paths start at the recipe's folder."
            raise CheckpointError(msg)
        path = snapshot_in(path) or path
        path = utf8_alias(path)
        open_clip, config = (_json(path / name, key) for name in (OPEN_CLIP_CONFIG, _CONFIG))
        return cls(path=path, key=key, open_clip=open_clip, config=config)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        return tuple(sorted(each.name for each in self.path.iterdir() if each.is_file()))

    def weights(self, preferred: Sequence[str]) -> tuple[Path, ...]:
        """The safetensors of the model: the first of `preferred` that is there, the shards of an index, or
        the only file of them, whatever its name. Links stay links, as the names of the hub's cache are.

        Raises
        ------
        CheckpointError
            If there are none, or it is unclear which are meant. Pickles are refused unread: unpickling runs
            code.
        """
        named = next((name for name in (*preferred, _INDEX) if (self.path / name).is_file()), None)
        parts = self._parts(named) if named is not None else self._only()
        if parts is not None:
            return parts
        pickles = [name for name in self.files if name == named or name.endswith(_PICKLES)]
        if not pickles:
            met = ", ".join(pointers_in(self.path))
            got = f"{met}, which are pointers or empty," if met else "none"
            msg = (
                f"`{self.key}` must be a folder with one safetensors file; got {got} in {self.path}. Fetch "
                f"{preferred[0]} into it."
            )
            raise CheckpointError(msg)
        paths = (self.path.absolute() / name for name in (self._largest(pickles), preferred[0]))
        msg = (
            f"`{self.key}` must hold safetensors; got {', '.join(pickles)} in {self.path}, which can run "
            f"code when read. Convert it where you trust it: "
            f"{_CONVERSION.format(*paths)}; where the weights are in several files, "
            "join these first; take those of a training checkpoint from its key, such as state_dict."
        )
        raise CheckpointError(msg)

    def _largest(self, names: Sequence[str]) -> str:
        """The file that may be the weights: others of a training hold its settings or moments."""
        weights = [name for name in names if "optim" not in name] or names
        return max(weights, key=lambda name: (self.path / name).stat().st_size)

    def _parts(self, name: str) -> tuple[Path, ...] | None:
        """The file of that name, or the shards that it lists; None where it is of another format."""
        try:
            parts = shards_of(self.path / name)
            return parts if {weight_format(part) for part in parts} == {"safetensors"} else None
        except NotWeightsError as error:
            msg = f"`{self.key}`: `{self.path / name}` {error}"
            raise CheckpointError(msg) from error

    def _only(self) -> tuple[Path, ...] | None:
        paths = [self.path / name for name in self.files if _is_safetensors(self.path / name)]
        if len(paths) > 1:
            msg = (
                f"`{self.key}` must be a folder with one safetensors file; got "
                f"{', '.join(path.name for path in paths)} in {self.path}. Keep the one that is meant."
            )
            raise CheckpointError(msg)
        return tuple(paths) or None


def _is_safetensors(path: Path) -> bool:
    try:
        return weight_format(path) == "safetensors"
    except NotWeightsError:
        return False


def tensor_names(files: Sequence[Path]) -> frozenset[str]:
    """The names of the tensors in safetensors files, whose contents stay unread.

    Raises CheckpointError for a file that this version of safetensors cannot read.
    """
    names: set[str] = set()
    for path in files:
        with reading(path), safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return frozenset(names)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the library says of a file into CheckpointError."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        msg = f"`init` must hold safetensors that can be read; got {path}: {one_line(error)}. Fetch it again."
        raise CheckpointError(msg) from error


def shown(names: Sequence[str]) -> str:
    """The first few names of a longer list, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN]) or 'nothing'}{more}"


def _json(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"`{key}` must hold readable JSON; got {path}: {one_line(error)}. Fetch it again."
        raise CheckpointError(msg) from error
    if not isinstance(content, dict):
        msg = f"`{key}` must hold a JSON object in {path}; got a {type(content).__name__}. Copy it again."
        raise CheckpointError(msg)
    return content
