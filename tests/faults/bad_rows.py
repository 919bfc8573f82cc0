"""Every kind of bad row that a table can have, with what the product must say of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from faulty_world import Row, World, png_bomb
from PIL import Image


@dataclass(frozen=True)
class Bad:
    """A fault: what it does to a row that was good, and the words that must stand on the row's line."""

    name: str
    spoil: Callable[[Path, Row], None]
    says: str


def _damaged(name: str, spoil: Callable[[bytes], bytes], says: str, *, like: str = "PNG") -> Bad:
    """The row's picture, saved as another kind under a name of its own, with its bytes spoilt."""

    def change(folder: Path, row: Row) -> None:
        path = folder / "images" / f"{name.replace(' ', '-')}.{like.lower()}"
        Image.open(folder / row["image"]).save(path, format=like)
        path.write_bytes(spoil(path.read_bytes()))
        row["image"] = f"images/{path.name}"

    return Bad(name, change, says)


def _cell(name: str, column: str, value: str, says: str) -> Bad:
    def change(folder: Path, row: Row) -> None:
        row[column] = value

    return Bad(name, change, says)


def _outside(folder: Path, row: Row) -> None:
    Image.open(folder / row["image"]).save(folder.parent / "outside.png")
    row["image"] = "../outside.png"


def _absolute(folder: Path, row: Row) -> None:
    row["image"] = "/etc/hostname"


def _linked(folder: Path, row: Row) -> None:
    target = folder.parent / "linked.png"
    Image.open(folder / row["image"]).save(target)
    (folder / "images" / "link.png").symlink_to(target)
    row["image"] = "images/link.png"


def _bomb(folder: Path, row: Row) -> None:
    png_bomb(folder / "images" / "bomb.png")
    row["image"] = "images/bomb.png"


def _text(folder: Path, row: Row) -> None:
    (folder / "images" / "notes.png").write_text("these are notes, whatever the name says\n")
    row["image"] = "images/notes.png"


def _volume(folder: Path, row: Row) -> None:
    path = folder / "images" / "volume.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:600])
    row["image"] = "images/volume.nii"


def _not_finite(folder: Path, row: Row) -> None:
    path = folder / "images" / "float.nii"
    nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 8), np.nan, np.float32), np.eye(4)), path)
    row["image"] = "images/float.nii"


def _shuffled(content: bytes) -> bytes:
    """The same header; the compressed pixels are spoilt."""
    return content[:60] + bytes(255 - byte for byte in content[60:-20]) + content[-20:]


BAD = (
    _damaged("corrupt", _shuffled, "must be a whole PNG, JPEG, TIFF or BMP file"),
    _damaged("truncated", lambda content: content[:400], "must be a whole PNG, JPEG", like="JPEG"),
    _damaged("zero bytes", lambda _: b"", "must hold an image; got 0 bytes"),
    Bad("bomb", _bomb, "must have at most 100,000,000 pixels"),
    Bad("text", _text, "must hold an image; got text"),
    Bad("volume", _volume, "must be a whole NIfTI file"),
    Bad("not finite", _not_finite, "must hold finite values"),
    _cell("missing", "image", "images/gone.png", "`image` must name a file; got 'images/gone.png', which"),
    _cell("folder", "image", "images", "`image` must name a file; got 'images', a folder"),
    _cell("no image", "image", " ", "`image` must name a file; got a blank"),
    Bad("outside", _outside, "`image` must stay inside `root`; got '../outside.png'"),
    Bad("absolute", _absolute, "`image` must stay inside `root`; got '/etc/hostname'"),
    Bad("linked", _linked, "`image` must stay inside `root`; got 'images/link.png', a link that"),
    _cell("latin-1 caption", "text", "l\udce9sion", "`text` must be UTF-8; got byte 0xE9"),
    _cell("same id", "id", "sample-0", "`id` must be unique; got 'sample-0', which is also the id of row 1"),
    _cell("no patient", "patient", "", "`patient` must name a patient; got a blank"),
)
# A JPEG that calls itself PNG is an image all the same: kinds are found from the content.
WRONGLY_NAMED = "really-a-jpeg.png"


def add_bad_rows(world: World) -> dict[int, Bad]:
    """Spread one row of every fault over the rows of a world; returns row of the table → its fault."""
    rows: list[Row] = []
    place: dict[int, Bad] = {}
    bad = iter(BAD)
    for good in world.rows:
        rows.append(good)
        fault = next(bad, None)
        if fault is not None:
            spoilt = {**good, "id": f"bad-{len(rows)}"}
            fault.spoil(world.folder, spoilt)
            rows.append(spoilt)
            place[len(rows)] = fault
    assert len(place) == len(BAD)
    world.rows = rows
    return place


def rename_wrongly(world: World) -> None:
    """Make one good row's picture a JPEG under the name of a PNG."""
    row = world.rows[4]
    Image.open(world.folder / row["image"]).save(world.folder / "images" / "x.jpg", quality=100)
    shutil.move(world.folder / "images" / "x.jpg", world.folder / "images" / WRONGLY_NAMED)
    row["image"] = f"images/{WRONGLY_NAMED}"
