"""Colour photograph of the ocular fundus: disc, vessels, macula; retinopathy or glaucoma."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Pen,
    Plane,
    Plate,
    axes,
    clouds,
    cover,
    ellipse,
    field,
    glow,
    grain,
    label_map,
    lay,
    ramp,
    splat,
    tint,
    to_pixels,
)

_RETINAS = (
    ((0.10, 0.02, 0.01), (0.52, 0.16, 0.05), (0.86, 0.38, 0.14), (0.98, 0.62, 0.30)),
    ((0.08, 0.02, 0.01), (0.38, 0.13, 0.06), (0.66, 0.29, 0.13), (0.86, 0.50, 0.26)),
    ((0.12, 0.03, 0.02), (0.60, 0.20, 0.10), (0.92, 0.46, 0.24), (1.00, 0.72, 0.46)),
)
_PATH = np.linspace(0, 1, 17)[:, None]
_BEZIER = ((1 - _PATH) ** 2, 2 * _PATH * (1 - _PATH), _PATH * _PATH)
_FREE = 0.012 * np.minimum(4 * _PATH, 1)


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """The optic disc lies towards the nose: on the right of the picture in a right eye."""
    eye = case.side or ("left" if rng.random() < 0.5 else "right")
    sign = 1.0 if eye == "right" else -1.0
    plane = lay(rng, size, turn=0.05, shift=0.03, zoom=0.03, wobble=0.008)
    disc_at = (sign * (0.42 + rng.normal(0, 0.03)), rng.normal(0.0, 0.03))
    image = _retina(rng, plane, sign)
    vessels = _vessels(rng, size, disc_at, sign)
    disc, cup = _disc(rng, plane, disc_at, case)
    tint(image, (0.97, 0.70, 0.40), 0.85 * disc)
    tint(image, (1.00, 0.95, 0.76), 0.9 * cup)
    tint(image, (0.42, 0.05, 0.03), vessels * (0.8 - 0.3 * cup))
    lesion = cup
    if case.finding.label == "diabetic retinopathy":
        lesion = _retinopathy(rng, image, case, disc_at)
    aperture = _aperture(rng, size)
    image *= aperture[..., None]
    image += np.float32(rng.uniform(0.008, 0.022)) * grain(rng, size)[..., None]
    shapes = [("retinal vessels", vessels), ("optic disc", disc), (case.finding.structure, lesion * aperture)]
    mask, structures = label_map(shapes[: 2 if case.finding.normal else 3], size)
    facts = replace(case, detail=f"{eye} eye")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=False)


def _retina(rng: np.random.Generator, plane: Plane, sign: float) -> Plate:
    """Background lit from the centre, choroidal pattern, dark macula with its reflex."""
    size = plane.x.shape[0]
    stops = _RETINAS[int(rng.integers(len(_RETINAS)))]
    radius = plane.x * plane.x + plane.y * plane.y
    light = 0.70 - 0.30 * radius + np.float32(0.06 * rng.standard_normal())
    light = light + 0.05 * clouds(rng, size, 4, 2) + 0.022 * field(rng, size, (30, 22))
    fovea = (-sign * (0.10 + rng.normal(0, 0.02)), 0.03)
    light = light - 0.20 * glow(plane, fovea, 0.13) - 0.10 * glow(plane, fovea, 0.05)
    image = ramp(light, stops)
    tint(image, (1.0, 0.75, 0.5), 0.10 * glow(plane, (fovea[0] + 0.03, fovea[1] - 0.03), 0.02))
    return image


def _vessels(rng: np.random.Generator, size: int, disc: tuple[float, float], sign: float) -> Plate:
    """Arteries and veins: two temporal arcades around the macula, two nasal pairs, and their branches."""
    pen = Pen(size)
    for up in (-1, 1):
        for vein in (0, 1):
            jitter = rng.normal(0, 0.04, (2, 2)) + 0.05 * vein * np.array([sign, up])
            bow = np.array([(disc[0] - 0.12 * sign, 0.78 * up), (-0.78 * sign, 0.42 * up)]) + jitter
            width = 0.034 if vein else 0.022
            arcade = _curve(np.array([disc]), bow, rng)
            _taper(pen, arcade, width, 0.95 if vein else 0.7)
            for start in (6, 11):
                side = rng.choice((-1.0, 1.0))
                reach = np.array([-sign * rng.uniform(0.25, 0.5), side * up * rng.uniform(0.15, 0.45)])
                end = arcade[start] + reach
                if np.hypot(end[0] + 0.1 * sign, end[1]) > 0.22:
                    middle = arcade[start] + reach * (0.6, 0.25)
                    _taper(
                        pen, _curve(arcade[start : start + 1], np.array([middle, end]), rng), 0.5 * width, 0.7
                    )
            nasal = np.array([(disc[0] + 0.12 * sign, 0.40 * up), (sign * 0.90, (0.5 + 0.2 * vein) * up)])
            _taper(pen, _curve(np.array([disc]), nasal + jitter, rng), 0.75 * width, 0.85)
    return pen.plate()


def _curve(
    start: NDArray[np.float64], rest: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """A quadratic Bezier curve in 17 points with a slight meander."""
    points = _BEZIER[0] * start[0] + _BEZIER[1] * rest[0] + _BEZIER[2] * rest[1]
    return points + _FREE * np.sin(_PATH * rng.uniform(8, 18, 2) + rng.uniform(0, 6, 2))


def _taper(pen: Pen, points: NDArray[np.float64], width: float, value: float) -> None:
    """A stroke in three pieces, each thinner than the one before."""
    for piece, share in enumerate((1.0, 0.75, 0.5)):
        pen.line(points[piece * 5 : piece * 5 + 7], width * share, value)


def _disc(rng: np.random.Generator, plane: Plane, at: tuple[float, float], case: Case) -> tuple[Plate, Plate]:
    """Optic disc and cup; the cup-to-disc ratio is what tells glaucoma."""
    radius = rng.normal(0.165, 0.008)
    ratio = rng.uniform(0.22, 0.42)
    if case.finding.label == "glaucoma":
        ratio = 0.64 + 0.26 * case.severity
    disc = cover(ellipse(plane, at, (radius, 1.12 * radius)), 0.02 + plane.pixel)
    return disc, cover(ellipse(plane, at, (ratio * radius, 1.15 * ratio * radius)), 0.03 + plane.pixel)


def _retinopathy(rng: np.random.Generator, image: Plate, case: Case, disc: tuple[float, float]) -> Plate:
    """Dots and blots of blood, and hard exudates in clusters; all keep away from the disc."""
    size = image.shape[0]
    count = 5 + round(14 * case.severity)
    spread = rng.uniform(-1, 1, (40, 2)) * 0.68
    away = np.hypot(spread[:, 0] - disc[0], spread[:, 1] - disc[1]) > 0.28
    centres = spread[away][:count]
    radii = rng.uniform(0.024, 0.055, (len(centres), 2)) * (0.85 + 0.25 * case.grade)
    radii[0] = np.maximum(radii[0], 0.06)
    plate = splat(size, centres, radii, turns=rng.uniform(0, 3, len(centres)))
    tint(image, (0.30, 0.02, 0.02), 0.85 * plate)
    flecks = 2 + 4 * case.grade
    cluster = rng.uniform(-0.4, 0.3, (1, 2)) + rng.normal(0, 0.11, (flecks, 2))
    fat = splat(size, cluster, rng.uniform(0.012, 0.03, (flecks, 2)))
    tint(image, (0.99, 0.90, 0.50), 0.9 * fat)
    return plate


def _aperture(rng: np.random.Generator, size: int) -> Plate:
    """The round field stop of the camera, cut above and below in some cameras."""
    x, y = axes(size)
    edge = np.sqrt(x * x + y * y) - np.float32(rng.uniform(0.92, 0.97))
    if rng.random() < 0.35:
        edge = np.maximum(edge, np.abs(y) - np.float32(rng.uniform(0.76, 0.86)))
    return cover(edge, 0.015 + 3 / size)
