"""The drawing kit of the phantoms: a plane, shapes as signed distances, noise, strokes, grain.

Coordinates run from -1 to 1 across the picture, x to the right and y down, so that a drawing looks the same
at every size. Draw the numbers that decide the content (positions, coarse noise) first and pixel-sized grain
last: then the same generator state shows the same patient at 64 and at 224 pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from meddistill.data.phantom.config import Modality
from meddistill.data.phantom.vocabulary import SIZE_WORDS, WORDS, Finding, Side

Pixels: TypeAlias = NDArray[np.uint8]
# float32 throughout; numpy's stubs call float32 times a Python float float64, which numpy does not do
Plate: TypeAlias = NDArray[Any]
Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is wrong with a patient, before any pixel.

    `severity` in [0, 1] sets the lesion's size within the finding's range, `grade` 1 to 3 its look; both are
    0 for a normal finding. `side` is the patient's. `detail` is how the picture was taken, added by the
    drawing.
    """

    modality: Modality
    finding: Finding
    severity: float = 0.0
    grade: int = 0
    side: Side = ""
    place: str = ""
    detail: str = ""

    @property
    def anatomy(self) -> str:
        """The part of the body that the picture shows."""
        return WORDS[self.modality].anatomy

    @property
    def size_mm(self) -> float:
        """Extent of the lesion in millimetres, 0 for a normal finding."""
        low, high = self.finding.size_mm
        return low + self.severity * (high - low)

    @property
    def size_word(self) -> str:
        """`small`, `moderate` or `large`, by thirds of the severity; empty for a normal finding."""
        return "" if self.finding.normal else SIZE_WORDS[min(int(3 * self.severity), 2)]

    @property
    def where(self) -> str:
        """The place of the lesion in words, empty for a normal finding."""
        return self.finding.where.format(side=self.side, place=self.place)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished picture: `image` uint8 (h, w, 3); `mask` uint8 (h, w), 0 where there is no structure.

    `structures` gives the mask's value of each structure; all that it names are in the mask. `gray` says that
    the three channels are equal.
    """

    image: Pixels
    mask: Pixels
    structures: Mapping[str, int]
    facts: Case
    gray: bool


class Plane(NamedTuple):
    """Bent coordinates of every pixel, float32 (n, n), and the width of a pixel in their units."""

    x: Plate
    y: Plate
    pixel: float

    def at(self, centre: Point) -> "Plane":
        """The same plane with its origin moved to `centre`."""
        return Plane(self.x - np.float32(centre[0]), self.y - np.float32(centre[1]), self.pixel)


@lru_cache(maxsize=8)
def axes(size: int) -> tuple[Plate, Plate]:
    """Centres of the pixels: x (1, n) and y (n, 1) in (-1, 1)."""
    line = ((2 * np.arange(size, dtype=np.float32) + 1) / size - 1).astype(np.float32)
    return line[None, :], line[:, None]


def lay(
    rng: np.random.Generator, size: int, *, turn: float, shift: float, zoom: float, wobble: float
) -> Plane:
    """A plane turned, moved, scaled and bent at random.

    Each number is a standard deviation: `turn` in radians, `shift` and `wobble` in half-widths of the
    picture, `zoom` a fraction. The bend is a smooth displacement with five waves across the picture.
    """
    angle, dx, dy, grow = (rng.standard_normal(4).clip(-2, 2) * (turn, shift, shift, zoom)).tolist()
    x, y = axes(size)
    scale = 1.0 + grow
    cos, sin = float(np.cos(angle)) * scale, float(np.sin(angle)) * scale
    bent_x, bent_y = cos * x + sin * y + dx, cos * y - sin * x + dy
    if wobble:
        bent_x += wobble * field(rng, size, 5)
        bent_y += wobble * field(rng, size, 5)
    return Plane(bent_x, bent_y, 2.0 * scale / size)


def field(rng: np.random.Generator, size: int, cells: int | tuple[int, int]) -> Plate:
    """Smooth noise (n, n) of about unit variance with `cells` control points across, or (down, across)."""
    shape = (cells, cells) if isinstance(cells, int) else cells
    return stretch(rng.standard_normal(shape, dtype=np.float32), size)


def stretch(plate: Plate, size: int) -> Plate:
    """A float plate resampled to (n, n), bicubic, antialiased where it shrinks."""
    rows, columns = plate.shape
    return _resampling(rows, size) @ plate @ _resampling(columns, size).T


@lru_cache(maxsize=256)
def _resampling(cells: int, size: int) -> Plate:
    """Pillow's bicubic kernel as a matrix (size, cells): ten times faster than its calls on small plates."""
    identity = Image.fromarray(np.eye(cells, dtype=np.float32))
    return np.ascontiguousarray(np.asarray(identity.resize((cells, size), Image.Resampling.BICUBIC)))


def clouds(rng: np.random.Generator, size: int, cells: int, octaves: int = 3) -> Plate:
    """Noise with detail: each octave has twice the cells and 0.55 of the amplitude of the one before."""
    total = field(rng, size, cells)
    for octave in range(1, octaves):
        total = total + np.float32(0.55**octave) * field(rng, size, cells << octave)
    return total


def grain(rng: np.random.Generator, size: int) -> Plate:
    """White noise per pixel, unit variance. Its length depends on the size: draw it last."""
    return rng.standard_normal((size, size), dtype=np.float32)


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> Plate:
    """Fully developed speckle: Rayleigh amplitudes of mean 1, the root of exponential intensities."""
    return np.sqrt(rng.standard_exponential(shape, dtype=np.float32)) * np.float32(1.1284)


def ellipse(plane: Plane, centre: Point, radii: Point, turn: float = 0.0) -> Plate:
    """About the signed distance to an ellipse, negative inside, exact on the axes; `turn` in radians."""
    x, y = plane.x - np.float32(centre[0]), plane.y - np.float32(centre[1])
    if turn:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        x, y = cos * x + sin * y, cos * y - sin * x
    a, b = radii
    x, y = x * np.float32(1 / a), y * np.float32(1 / b)
    return (np.sqrt(x * x + y * y) - 1) * np.float32(min(a, b))


def cover(distance: Plate, width: float) -> Plate:
    """Coverage in [0, 1] of a shape given by its signed distance, with an edge `width` wide."""
    return np.minimum(np.maximum(np.float32(0.5) - distance * np.float32(1 / width), 0), 1)


def ridge(distance: Plate, width: float) -> Plate:
    """A soft line in [0, 1] along the zero of a signed distance."""
    scaled = distance * np.float32(1 / width)
    return 1 / (1 + scaled * scaled * scaled * scaled)


def glow(plane: Plane, centre: Point, radius: float) -> Plate:
    """A Gaussian spot in [0, 1] with standard deviation `radius`."""
    x, y = plane.x - np.float32(centre[0]), plane.y - np.float32(centre[1])
    return np.exp((x * x + y * y) * np.float32(-0.5 / radius**2))


def lerp(plate: Plate, value: Plate | float, alpha: Plate) -> Plate:
    """`plate` with `value` laid over it where `alpha` is 1."""
    return plate + alpha * (value - plate)


def tint(image: Plate, color: Sequence[float], alpha: Plate) -> None:
    """Lays one colour (r, g, b) in [0, 1] over an (n, n, 3) image, in place."""
    image += alpha[..., None] * (np.asarray(color, dtype=np.float32) - image)


def ramp(plate: Plate, stops: Sequence[Sequence[float]]) -> Plate:
    """Colours (n, n, 3) for values in [0, 1], linear between equally spaced stops."""
    table = _table(tuple(tuple(stop) for stop in stops))
    return table[(np.minimum(np.maximum(plate, 0), 1) * 255).astype(np.uint8)]


@lru_cache(maxsize=64)
def _table(stops: tuple[tuple[float, ...], ...]) -> Plate:
    at, places = np.linspace(0, 1, 256), np.linspace(0, 1, len(stops))
    columns = [np.interp(at, places, [stop[channel] for stop in stops]) for channel in range(3)]
    return np.stack(columns, axis=1).astype(np.float32)


class Pen:
    """Thin strokes, drawn larger and averaged down, in unbent picture coordinates."""

    def __init__(self, size: int) -> None:
        self._factor = 3 if size < 100 else 2
        self._size = size
        self._canvas = Image.new("L", (size * self._factor, size * self._factor))
        self._draw = ImageDraw.Draw(self._canvas)

    def line(self, points: NDArray[np.floating], width: float, value: float = 1.0) -> None:
        """A polyline through (k, 2) points, `width` in half-widths of the picture."""
        pixels = (points + 1) * (0.5 * self._size * self._factor)
        thick = max(1, round(width * 0.5 * self._size * self._factor))
        self._draw.line(pixels.ravel().tolist(), fill=round(255 * value), width=thick, joint="curve")

    def shapes(self, outlines: NDArray[np.floating], values: NDArray[np.floating]) -> None:
        """Filled polygons through (m, k, 2) points with `m` values, the later over the earlier."""
        pixels = (outlines + 1) * (0.5 * self._size * self._factor)
        inks = np.rint(255 * values).astype(int).tolist()
        for outline, ink in zip(
            pixels.reshape(len(outlines), 2 * outlines.shape[1]).tolist(), inks, strict=True
        ):
            self._draw.polygon(outline, fill=ink)

    def plate(self) -> Plate:
        """What was drawn, as coverage in [0, 1]."""
        return np.asarray(self._canvas.reduce(self._factor), dtype=np.float32) * np.float32(1 / 255)


def splat(
    size: int,
    centres: NDArray[np.floating],
    radii: NDArray[np.floating],
    *,
    turns: NDArray[np.floating] | None = None,
    values: NDArray[np.floating] | None = None,
) -> Plate:
    """Many small ellipses on one plate, the strongest winning where they overlap.

    `centres` and `radii` are (m, 2), `turns` (m,) in radians, `values` (m,) in [0, 1]. Each is computed on
    its own patch of pixels only: a hundred nuclei cost little more than one.
    """
    pixel = 2.0 / size
    reach = int(np.ceil(float(radii.max(initial=0.0)) / pixel)) + 1
    seen = np.abs(centres).max(axis=1) < 1 + (reach - 1) * pixel
    centres, radii = centres[seen].astype(np.float32), radii[seen].astype(np.float32)
    cells = np.floor((centres + 1) / pixel).astype(np.intp)[:, :, None] + np.arange(-reach, reach + 1)
    offsets = (cells.astype(np.float32) + 0.5) * np.float32(pixel) - 1 - centres[:, :, None]
    x, y = offsets[:, 0, None, :], offsets[:, 1, :, None]
    if turns is not None:
        angle = turns[seen].astype(np.float32)[:, None, None]
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = cos * x + sin * y, cos * y - sin * x
    u, v = x / radii[:, 0, None, None], y / radii[:, 1, None, None]
    distance = (np.sqrt(u * u + v * v) - 1) * radii.min(axis=1)[:, None, None]
    patch = cover(distance, pixel)
    if values is not None:
        patch = patch * values[seen].astype(np.float32)[:, None, None]
    width = size + 4 * reach
    spots = (cells[:, 1, :, None] + 2 * reach) * width + (cells[:, 0, None, :] + 2 * reach)
    canvas = np.zeros(width * width, dtype=np.float32)
    np.maximum.at(canvas, spots.ravel(), patch.ravel())
    return canvas.reshape(width, width)[2 * reach : -2 * reach, 2 * reach : -2 * reach]


_LETTERS: Mapping[str, tuple[tuple[Point, ...], ...]] = {
    "L": (((-1, -1), (-1, 1), (0.6, 1)),),
    "R": (((-1, 1), (-1, -1), (0.4, -1), (0.7, -0.5), (0.4, 0), (-1, 0)), ((-0.1, 0), (0.8, 1))),
}


def letter(pen: Pen, name: str, centre: Point, height: float) -> None:
    """A burned-in side marker, `L` or `R`, `height` in half-widths of the picture."""
    for stroke in _LETTERS[name]:
        points = np.asarray(stroke, dtype=np.float64) * (0.3 * height, 0.5 * height) + centre
        pen.line(points, 0.16 * height)


def to_pixels(image: Plate) -> Pixels:
    """uint8 (n, n, 3) from a gray (n, n) or colour (n, n, 3) plate in [0, 1]; values outside are clipped."""
    scaled = np.minimum(np.maximum(image, 0), 1) * np.float32(255) + np.float32(0.5)
    levels = scaled.astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels


def label_map(shapes: Sequence[tuple[str, Plate]], size: int) -> tuple[Pixels, dict[str, int]]:
    """Mask and names of shapes given as coverage; later shapes lie over earlier ones.

    A shape that is visible nowhere gets no name: a name always has pixels.
    """
    mask = np.zeros((size, size), dtype=np.uint8)
    for value, (_, plate) in enumerate(shapes, start=1):
        mask[plate > 0.5] = value
    present = np.bincount(mask.ravel(), minlength=len(shapes) + 1)
    return mask, {name: value for value, (name, _) in enumerate(shapes, start=1) if present[value]}
