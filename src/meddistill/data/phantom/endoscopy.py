"""Still of a colonoscopy: folds around the lumen, vessels, highlights; polyp or ulcer."""

from dataclasses import replace

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
    grain,
    label_map,
    lay,
    ramp,
    ridge,
    tint,
    to_pixels,
)

_MUCOSA = ((0.05, 0.01, 0.01), (0.42, 0.12, 0.09), (0.78, 0.36, 0.28), (0.93, 0.58, 0.47), (1.0, 0.80, 0.70))


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """Light sits beside the camera: near walls are bright, the lumen is dark."""
    plane = lay(rng, size, turn=0.3, shift=0.0, zoom=0.05, wobble=0.03)
    sign = -1 if case.side == "left" else 1 if case.side == "right" else int(rng.choice((-1, 1)))
    lumen = (float(-0.22 * sign + rng.normal(0, 0.08)), float(rng.normal(-0.05, 0.14)))
    light, crest = _folds(rng, plane, lumen)
    image = ramp(light, _MUCOSA)
    _vessels(rng, image, light)
    _residue(rng, image)
    lesion = np.zeros((size, size), dtype=np.float32)
    if not case.finding.normal:
        flat = lay(rng, size, turn=0, shift=0, zoom=0, wobble=0.012)
        spot = (float(sign * rng.uniform(0.34, 0.52)), float(rng.uniform(-0.35, 0.40)))
        paint = _polyp if case.finding.label == "polyp" else _ulcer
        lesion = paint(rng, flat, image, case=case, spot=spot)
    _highlights(rng, image, crest * (1 - lesion), light)
    aperture = _aperture(rng, size)
    image = image * aperture[..., None] * np.float32(rng.uniform(0.85, 1.1))
    image *= rng.normal(1, 0.03, 3).astype(np.float32)
    image = np.maximum(image, (0.8 * _screen(rng, size))[..., None])
    image += np.float32(rng.uniform(0.006, 0.02)) * grain(rng, size)[..., None]
    lumen_shape = cover(ellipse(plane, lumen, (0.16, 0.16)), 0.05) * aperture
    shapes = [("lumen", lumen_shape), (case.finding.structure, lesion * aperture)]
    mask, structures = label_map(shapes[: 1 if case.finding.normal else 2], size)
    return Drawing(
        image=to_pixels(image),
        mask=mask,
        structures=structures,
        facts=replace(case, detail="white light view"),
        gray=False,
    )


def _folds(rng: np.random.Generator, plane: Plane, lumen: Point) -> tuple[Plate, Plate]:
    """Brightness of the wall, and the crests of the haustral folds: rings, closer together far away."""
    here = plane.at(lumen)
    radius = np.sqrt(here.x * here.x + here.y * here.y) + 1e-3
    angle = np.arctan2(here.y, here.x)
    corner: Plate = np.float32(rng.uniform(0.06, 0.16)) * np.cos(3 * angle + rng.uniform(0, 6))
    corner = corner + 0.10 * field(rng, plane.x.shape[0], 4)
    phase = np.log(radius) * np.float32(rng.uniform(1.5, 2.1)) + corner + np.float32(rng.random())
    saw = phase - np.floor(phase)
    crest = cover(saw - 0.10, 0.16) * np.minimum(saw * 40, 1)
    behind = saw * saw * saw
    near = np.minimum(1.5 * radius, 1)
    light = 0.20 + 0.62 * np.minimum(radius * 1.25, 1) - 0.16 * np.maximum(radius - 0.95, 0)
    light = light - near * (0.30 * behind - 0.13 * crest) - 0.05 * near * saw
    light = light * np.minimum(radius * 3.0, 1) + 0.025 * clouds(rng, plane.x.shape[0], 10, 3)
    return light, crest


def _vessels(rng: np.random.Generator, image: Plate, light: Plate) -> None:
    """The fine net of submucosal vessels, seen where the wall is near."""
    size = image.shape[0]
    net = np.maximum(ridge(field(rng, size, 8), 0.07), 0.7 * ridge(field(rng, size, 14), 0.08))
    tint(image, (0.62, 0.10, 0.10), np.float32(rng.uniform(0.15, 0.45)) * net * np.clip(light, 0, 1))


def _residue(rng: np.random.Generator, image: Plate) -> None:
    """Yellow remains of stool: easily taken for an ulcer."""
    if rng.random() < 0.3:
        size = image.shape[0]
        patch = cover(np.float32(rng.uniform(1.7, 2.3)) - clouds(rng, size, 6, 3), 0.35)
        tint(image, (0.72, 0.56, 0.22), 0.75 * patch)


def _polyp(rng: np.random.Generator, plane: Plane, image: Plate, *, case: Case, spot: Point) -> Plate:
    """A dome lit from the camera, with a shadow around its foot and a highlight."""
    size = plane.x.shape[0]
    radius = 0.19 + 0.18 * case.severity
    lumps = (0.010 * case.grade) * clouds(rng, size, 9, 2)
    distance = ellipse(plane, spot, (radius, radius * rng.uniform(0.8, 1.0)), rng.uniform(0, 3)) + lumps
    shape = cover(distance, 0.04 + plane.pixel)
    foot = cover(distance - 0.05, 0.10) * (1 - shape)
    image *= 1 - (np.float32(0.38) * foot)[..., None]
    here = plane.at(spot)
    away = np.hypot(*spot) + 1e-6
    facing = -(here.x * (spot[0] / away) + here.y * (spot[1] / away)) * np.float32(1 / radius)
    dome = np.sqrt(np.maximum(0.02, np.minimum(1, -distance * np.float32(1.8 / radius))))
    light = 0.42 + 0.22 * dome + 0.16 * facing + 0.9 * lumps
    colors = ramp(light, _MUCOSA) * np.array([0.99, 0.71, 0.72], dtype=np.float32)
    image += shape[..., None] * (colors - image)
    glint = (spot[0] * (1 - 0.45 * radius / away), spot[1] * (1 - 0.45 * radius / away))
    shine = cover(ellipse(plane, glint, (0.20 * radius, 0.12 * radius)), 0.03)
    tint(image, (1.0, 0.98, 0.95), 0.9 * shine)
    return shape


def _ulcer(rng: np.random.Generator, plane: Plane, image: Plate, *, case: Case, spot: Point) -> Plate:
    """A ragged crater: pale fibrin on its ground, a swollen red rim."""
    size = plane.x.shape[0]
    radius = 0.18 + 0.18 * case.severity
    ragged = 0.028 * clouds(rng, size, 8, 3)
    distance = ellipse(plane, spot, (radius, radius * rng.uniform(0.65, 1.0)), rng.uniform(0, 3)) + ragged
    shape = cover(distance, 0.03 + plane.pixel)
    tint(image, (0.72, 0.14, 0.12), 0.75 * cover(distance - 0.08, 0.10))
    base = (0.97 - 0.04 * case.grade, 0.93 - 0.06 * case.grade, 0.74 - 0.05 * case.grade)
    tint(image, base, 0.92 * shape)
    image *= 1 - (0.10 * case.grade * ridge(distance + 0.02, 0.03) * shape)[..., None]
    image *= 1 + (0.05 * shape * field(rng, size, 22))[..., None]
    return shape


def _highlights(rng: np.random.Generator, image: Plate, crest: Plate, light: Plate) -> None:
    """Wet mucosa throws the lamp back from its crests."""
    size = image.shape[0]
    spots = field(rng, size, 24) + 0.9 * crest + 0.5 * light
    tint(image, (1.0, 0.99, 0.97), cover(np.float32(rng.uniform(2.35, 2.75)) - spots, 0.25))


def _aperture(rng: np.random.Generator, size: int) -> Plate:
    """The picture's cut corners on a black screen."""
    x, y = axes(size)
    across, down = np.abs(x), np.abs(y)
    corner = np.float32(rng.uniform(0.70, 0.78))
    edge = np.maximum(np.maximum(across - 0.96, down - 0.96), (across + down) * corner - 1)
    vignette = 1 - 0.22 * (x * x + y * y)
    return cover(edge, 0.02 + 2 / size) * vignette


def _screen(rng: np.random.Generator, size: int) -> Plate:
    """Lines of text in the upper left corner, in some pictures."""
    pen = Pen(size)
    for line in range(int(rng.integers(0, 4))):
        height = -0.94 + 0.07 * line
        pen.line(
            np.array([(-0.97, height), (-0.97 + rng.uniform(0.1, 0.26 - 0.04 * line), height)]), 0.025, 0.8
        )
    return pen.plate()
