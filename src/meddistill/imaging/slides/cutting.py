"""Slides as folders of PNG tiles. A slide is finished, or it is cut again from its beginning.

`<out>/<slide>/<x>_<y>.png` are the tiles; `<out>/<slide>/tiles.json` is written after the last of them and
names the slide, the options, and every tile. What stopped in the middle goes on with the first slide that has
no such file, or one of another slide or other options.
"""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from meddistill.files import printable, sealed, sync_file, sync_folder, unsealed, write_whole, writing
from meddistill.imaging.slides.slide import Slide
from meddistill.imaging.slides.tiles import DEFAULT_TILES, TileOptions, Tiling
from meddistill.progress import Progress

TABLE: Final = "tiles.csv"
_FINISHED: Final = "tiles.json"
# Part of what a finished slide was made under: raise it when the same options give other tiles.
_RULES_VERSION: Final = 1
_TILE: Final = re.compile(r"\d+_\d+\.png")


@dataclass(frozen=True, kw_only=True)
class CutTile:
    """Upper left corner of a tile in pixels of level 0, and its share of tissue, three decimals."""

    x: int
    y: int
    tissue: float

    @property
    def name(self) -> str:
        """The file in the folder of its slide."""
        return f"{self.x}_{self.y}.png"


@dataclass(frozen=True, kw_only=True)
class CutSlide:
    """A slide all of whose tiles are on disk."""

    path: Path
    tiles: tuple[CutTile, ...]


def cut_slides(
    slides: Sequence[Path], out: Path, options: TileOptions = DEFAULT_TILES, *, progress: Progress
) -> tuple[CutSlide, ...]:
    """Write the tiles of every slide, in their order; slides that are finished already are not opened.

    A slide is the same where name, size and time of its file are.

    Raises
    ------
    ImageError
        As `tiles_of`; slides before the refused one stay finished.
    MissingExtra
        Where OpenSlide is not installed.
    UserError
        Where the disk refuses.
    """
    done = {path: tiles for path in slides if (tiles := _finished(path, out, options)) is not None}
    if done:
        progress.say(f"done already: {len(done)} of {len(slides)} slides")
    with progress.track("slides", len(slides), unit="slides", done=len(done)) as advance:
        for number, path in enumerate(slides, start=1):
            if path not in done:
                # Numbers, for names of slides are often those of patients.
                label = f"slide {number} of {len(slides)}"
                done[path] = _cut(path, out, options, progress=progress, label=label)
                advance(1)
    return tuple(CutSlide(path=path, tiles=done[path]) for path in slides)


def _finished(path: Path, out: Path, options: TileOptions) -> tuple[CutTile, ...] | None:
    """The tiles of a slide that was finished under these options and lies there whole; else None."""
    folder = out / printable(path.stem)
    try:
        content = unsealed(json.loads((folder / _FINISHED).read_bytes()))
        facts = _facts(path, options)
        there = {each.name for each in folder.iterdir()}
    except (OSError, ValueError):
        return None
    if content is None or {name: content.get(name) for name in facts} != facts:
        return None
    tiles = tuple(CutTile(**each) for each in content["tiles"])
    return tiles if there.issuperset(tile.name for tile in tiles) else None


def _cut(
    path: Path, out: Path, options: TileOptions, *, progress: Progress, label: str
) -> tuple[CutTile, ...]:
    folder, cuts = out / printable(path.stem), []
    with Slide(path) as slide:
        tiling = Tiling(slide, options)
        facts = _facts(path, options)
        with writing(out):
            _begin(out, folder)
        with progress.track(label, len(tiling), unit="tiles") as advance:
            for tile in tiling:
                cut = CutTile(x=tile.x, y=tile.y, tissue=round(tile.tissue, 3))
                buffer = io.BytesIO()
                Image.fromarray(tile.pixels).save(buffer, format="PNG")
                with writing(folder):
                    (folder / cut.name).write_bytes(buffer.getvalue())
                cuts.append(cut)
                advance(1)
    with writing(folder):
        _remove_others(folder, {cut.name for cut in cuts})
        # Once a slide: durable one by one, the tiles of a slide would take several times as long.
        for cut in cuts:
            sync_file(folder / cut.name)
        sync_folder(folder)
    content = sealed({**facts, "tiles": [vars(cut) for cut in cuts]})
    write_whole(folder / _FINISHED, json.dumps(content).encode())
    return tuple(cuts)


def _begin(out: Path, folder: Path) -> None:
    """Take away what says that other tiles are finished, before the first of them is written over."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / _FINISHED).exists():
        (out / TABLE).unlink(missing_ok=True)
        (folder / _FINISHED).unlink()
        sync_folder(folder)


def _remove_others(folder: Path, kept: set[str]) -> None:
    """Remove tiles of other options."""
    for path in folder.iterdir():
        if _TILE.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def _facts(path: Path, options: TileOptions) -> dict[str, Any]:
    """What the tiles of a slide depend on."""
    stat = path.stat()
    return {
        "rules": _RULES_VERSION,
        "slide": {"name": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns},
        "options": options.model_dump(mode="json"),
    }
