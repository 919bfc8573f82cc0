"""Where the configuration and the tokenizer of a text tower are, for models whose own files hold neither."""

from pathlib import Path
from typing import Final

from meddistill.errors import TeacherError
from meddistill.teachers.sources import find_folder

_FOLDER: Final = "text"


def text_folder(text: str | None, model: Path, *, base: Path) -> Path:
    """The folder with `config.json` and tokenizer: `text` if given, else the model's `text/`, else its own.

    Raises
    ------
    TeacherError
        If there is no `config.json` in it.
    """
    if text is not None:
        folder = find_folder(text, base=base, revision=None).folder
    else:
        folder = model / _FOLDER if (model / _FOLDER).is_dir() else model
    if not (folder / "config.json").is_file():
        msg = (
            f"`text` must be a folder with config.json and tokenizer of the text tower; got {folder.name!r} "
            f"without config.json. Put them into `{_FOLDER}/` of the model's folder, or name their folder."
        )
        raise TeacherError(msg)
    return folder
