"""A folder to start from, by what its files hold: which library's it is, and its tensors' names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open

from meddistill.errors import CheckpointError

OPEN_CLIP_CONFIG: Final = "open_clip_config.json"
_CONFIG: Final = "config.json"
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_INDEX: Final = "model.safetensors.index.json"
_SHOWN: Final = 5


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
        open_clip, config = (_json(path / name, key) for name in (OPEN_CLIP_CONFIG, _CONFIG))
        return cls(path=path, key=key, open_clip=open_clip, config=config)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files."""
        return tuple(sorted(each.name for each in self.path.iterdir() if each.is_file()))

    def weights(self, preferred: Sequence[str]) -> tuple[Path, ...]:
        """The safetensors of the model: the first of `preferred` that is there, the shards of an index, or
        the only file. Links are not followed: in the hub's cache they have the names and their targets none.

        Raises
        ------
        CheckpointError
            If there are none, or it is unclear which are meant. Pickles are refused unread: unpickling runs
            code.
        """
        for name in preferred:
            if (self.path / name).is_file():
                return (self.path / name,)
        if (self.path / _INDEX).is_file():
            listed: dict[str, str] = (_json(self.path / _INDEX, self.key) or {}).get("weight_map", {})
            return tuple(self.path / Path(name).name for name in sorted(set(listed.values())))
        found = sorted(self.path.glob("*.safetensors"))
        if len(found) == 1:
            return (found[0],)
        pickles = [name for name in self.files if name.endswith(_PICKLES)]
        if pickles and not found:
            msg = (
                f"`{self.key}` must hold safetensors; got {', '.join(pickles)} in {self.path}, which can run "
                "code when read. Convert it where you trust it: safetensors.torch.save_file(torch.load(…, "
                f'weights_only=True), "{preferred[0]}").'
            )
        else:
            msg = (
                f"`{self.key}` must be a folder with one safetensors file; got {len(found)} in {self.path}. "
                f"Name a folder that holds {preferred[0]}."
            )
        raise CheckpointError(msg)


def tensor_names(files: Sequence[Path]) -> frozenset[str]:
    """The names of the tensors in safetensors files, whose contents stay unread.

    Raises CheckpointError for a file that is none.
    """
    names: set[str] = set()
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                names.update(file.keys())
        except (SafetensorError, OSError) as error:
            line = str(error).strip().splitlines()[0]
            msg = f"`init` must hold safetensors that can be read; got {path}: {line}. Fetch them again."
            raise CheckpointError(msg) from error
    return frozenset(names)


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
        msg = f"`{key}` must hold readable JSON; got {path}. {str(error).splitlines()[0]}"
        raise CheckpointError(msg) from error
    if not isinstance(content, dict):
        msg = f"`{key}` must hold a JSON object in {path}; got a {type(content).__name__}. Copy it again."
        raise CheckpointError(msg)
    return content
