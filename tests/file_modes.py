"""Who may read the files that were written."""

import stat
from pathlib import Path

from meddistill.files import part_of


def of_others(folder: Path) -> dict[str, str]:
    """Files of a folder whose permissions are not those of a file that is newly made there."""
    usual = part_of(folder / "usual")
    usual.touch()
    expected = usual.stat().st_mode
    usual.unlink()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return {
        path.relative_to(folder).as_posix(): stat.filemode(path.stat().st_mode)
        for path in files
        if path.stat().st_mode != expected
    }
