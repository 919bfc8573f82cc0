"""Sector ultrasound of liver and gallbladder: speckle, tubes, shadows; gallstone or liver mass."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Pen,
    Plane,
    Plate,
    Point,
    axes,
    clouds,
    cover,
    ellipse,
    field,
    label_map,
    lay,
    lerp,
    ridge,
    speckle,
    stretch,
    to_pixels,
)

_APEX = -1.28
_NEAR, _FAR, _OPENING = 0.42, 2.18, 0.60


class _Beam(NamedTuple):
    """Depth below the apex, angle to the axis, and coverage of the sector, per pixel."""

    depth: Plate
    angle: Plate
    sector: Plate


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """Anatomy in bent coordinates; speckle and shadows follow the beam from the transducer."""
    beam = _beam(rng, size)
    plane = lay(rng, size, turn=0.12, shift=0.07, zoom=0.07, wobble=0.03)
    image, bladder, neck, tip = _anatomy(rng, plane)
    lesion = np.zeros_like(image)
    if case.finding.label == "liver mass":
        image, lesion = _mass(rng, plane, image, case)
    if case.finding.label == "gallstone":
        spot = neck if case.place == "neck" else tip
        image, lesion = _stone(rng, plane, beam, image, case=case, spot=spot)
    else:
        image = image * (1 + 0.55 * _behind(beam, (neck[0] + tip[0]) / 2, (neck[1] + tip[1]) / 2))
    image = _scan(rng, beam, image, size) * beam.sector
    lesion = lesion * beam.sector
    pen = _screen(rng, size)
    image = np.maximum(image, pen)
    shapes = [("gallbladder", bladder * beam.sector), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 1 if case.finding.normal else 2], size)
    return Drawing(
        image=to_pixels(image),
        mask=mask,
        structures=structures,
        facts=replace(case, detail="sector view"),
        gray=True,
    )


def _beam(rng: np.random.Generator, size: int) -> _Beam:
    x, y = axes(size)
    down = y - np.float32(_APEX)
    depth = np.sqrt(x * x + down * down)
    angle = np.arctan2(x, down)
    opening = _OPENING + rng.uniform(-0.06, 0.05)
    outside = np.maximum(np.maximum(np.abs(angle) - opening, depth - _FAR), _NEAR - depth)
    return _Beam(depth, angle, cover(outside, 3 / size))


def _anatomy(rng: np.random.Generator, plane: Plane) -> tuple[Plate, Plate, Point, Point]:
    """Echo strength of liver, vessels, diaphragm and gallbladder; coverage and ends of the gallbladder."""
    size = plane.x.shape[0]
    image = np.float32(0.40) + 0.05 * field(rng, size, 6)
    tubes, course = field(rng, size, 4), cover(0.2 - field(rng, size, 4), 0.5)
    image = lerp(image, 0.10, 0.9 * ridge(tubes, 0.17) * course)
    image = image + 0.16 * ridge(np.abs(tubes) - 0.24, 0.08) * course
    dome = ellipse(plane, (-0.15, -0.30), (1.15, 0.98))
    image = lerp(image, 0.16, cover(-dome, 0.05)) + 0.75 * ridge(dome, 0.045)
    centre = (0.20 + rng.uniform(-0.08, 0.08), -0.02 + rng.uniform(-0.08, 0.06))
    tilt = rng.uniform(0.5, 1.0)
    long, wide = rng.uniform(0.27, 0.34), rng.uniform(0.11, 0.15)
    axis = (float(np.sin(tilt)), float(np.cos(tilt)))
    neck = (centre[0] - 0.66 * long * axis[0], centre[1] - 0.66 * long * axis[1])
    tip = (centre[0] + 0.50 * long * axis[0], centre[1] + 0.50 * long * axis[1])
    pear = np.minimum(
        ellipse(plane, centre, (wide, long), -tilt), ellipse(plane, tip, (1.15 * wide, 1.25 * wide))
    )
    bladder = cover(pear, 0.02 + plane.pixel)
    image = lerp(image, 0.03, bladder) + 0.30 * ridge(pear - 0.015, 0.03)
    return image, bladder, neck, tip


def _behind(beam: _Beam, x: float, y: float) -> Plate:
    """Coverage of what lies deeper than a structure, in its beam."""
    depth = float(np.hypot(x, y - _APEX))
    angle = float(np.arctan2(x, y - _APEX))
    return cover(np.abs(beam.angle - angle) - 0.08, 0.06) * cover(depth + 0.2 - beam.depth, 0.1)


def _stone(
    rng: np.random.Generator, plane: Plane, beam: _Beam, image: Plate, *, case: Case, spot: Point
) -> tuple[Plate, Plate]:
    """A bright cap on a dark shadow: nothing returns from behind the stone."""
    radius = 0.065 + 0.06 * case.severity
    rough = 0.008 * (case.grade - 1) * field(rng, plane.x.shape[0], 24)
    distance = ellipse(plane, spot, (radius, 0.8 * radius)) + rough
    shape = cover(distance, 0.015 + 1.5 * plane.pixel)
    weight = shape / (shape.sum() + np.float32(1e-6))
    angle, depth = float((weight * beam.angle).sum()), float((weight * beam.depth).sum())
    width = 0.9 * radius / depth
    shadow = cover(np.abs(beam.angle - angle) - width, 0.03) * cover(depth - beam.depth, 0.05)
    image = image * (1 - np.float32(rng.uniform(0.65, 0.9)) * shadow)
    front = 1.0 - 0.5 * np.clip((beam.depth - depth) / radius, -0.6, 1)
    return lerp(image, 0.85 * front, shape), shape


def _mass(rng: np.random.Generator, plane: Plane, image: Plate, case: Case) -> tuple[Plate, Plate]:
    spot = (
        rng.uniform(-0.42, -0.22),
        (-0.32 if case.place == "superficial" else 0.20) + rng.uniform(-0.06, 0.06),
    )
    radius = 0.13 + 0.13 * case.severity
    rough = 0.02 * (case.grade - 1) * clouds(rng, plane.x.shape[0], 10, 2)
    distance = ellipse(plane, spot, (1.1 * radius, radius)) + rough
    shape = cover(distance, 0.02 * case.grade + plane.pixel)
    image = lerp(image, rng.uniform(0.64, 0.78), 0.92 * shape)
    return image - 0.14 * ridge(distance - 0.02, 0.03), shape


def _scan(rng: np.random.Generator, beam: _Beam, image: Plate, size: int) -> Plate:
    """Speckle that widens with depth, near-field clutter, ribs' shadows, gain and compression."""
    rows, columns = 140, 64
    table = stretch(speckle(rng, (rows, columns)), 256 if size > 100 else 128)
    last = table.shape[0] - 1
    row = ((beam.depth - _NEAR) * (last / (_FAR - _NEAR))).clip(0, last).astype(np.intp)
    column = ((beam.angle + 0.7) * (last / 1.4)).clip(0, last).astype(np.intp)
    grains = table[row, column]
    image = np.maximum(image, 0) * (0.42 + 0.58 * grains)
    image = image + 0.35 * np.exp((_NEAR - beam.depth) * 14) * grains
    if rng.random() < 0.5:
        angle = float(rng.choice((-1, 1)) * rng.uniform(0.3, 0.55))
        image = image * (
            1 - np.float32(rng.uniform(0.3, 0.7)) * cover(np.abs(beam.angle - angle) - 0.05, 0.08)
        )
    focus = 1.12 - np.float32(rng.uniform(0.12, 0.35)) * (beam.depth - 1.1) ** 2
    return np.maximum(image * focus * np.float32(rng.uniform(0.95, 1.35)), 0) ** np.float32(
        rng.uniform(0.85, 1.1)
    )


def _screen(rng: np.random.Generator, size: int) -> Plate:
    """What the machine writes beside the sector: depth ticks, gray bar, lines of text."""
    pen = Pen(size)
    for tick in range(8):
        height = -0.7 + 0.22 * tick
        pen.line(np.array([(0.94, height), (0.98, height)]), 0.02, 0.5)
    for step in range(6):
        height = -0.45 + 0.07 * step
        pen.line(np.array([(-0.95, height), (-0.90, height)]), 0.07, 1 - step / 6)
    for line in range(int(rng.integers(0, 4))):
        height = -0.93 + 0.07 * line
        pen.line(np.array([(-0.95, height), (-0.95 + rng.uniform(0.15, 0.4), height)]), 0.025, 0.45)
    return 0.9 * pen.plate()
