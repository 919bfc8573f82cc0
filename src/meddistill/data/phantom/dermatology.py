"""Close-up of skin with hair: naevus or melanoma."""

from dataclasses import replace

import numpy as np

from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Pen,
    Plane,
    Plate,
    clouds,
    cover,
    ellipse,
    field,
    grain,
    label_map,
    lay,
    ramp,
    ridge,
    splat,
    tint,
    to_pixels,
)

_TONES = ((0.95, 0.80, 0.72), (0.91, 0.72, 0.60), (0.80, 0.58, 0.44), (0.62, 0.42, 0.30), (0.42, 0.28, 0.20))
_TONE_NAMES = ("fair", "fair", "light brown", "brown", "dark")
_HEIGHTS = {"central": 0.0, "upper": -0.32, "lower": 0.32}


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """A picture of about 25 millimetres, sharp or through a dermatoscope."""
    tone = min(float(rng.beta(1.2, 1.9)), 0.999)
    scope = bool(rng.random() < 0.45)
    plane = lay(rng, size, turn=0.6, shift=0.03, zoom=0.06, wobble=0.02)
    color = ramp(np.full((1, 1), tone, dtype=np.float32), _TONES)[0, 0]
    image = _skin(rng, plane, color)
    lesion = np.zeros(plane.x.shape, dtype=np.float32)
    if not case.finding.normal:
        across, up = rng.normal(0, 0.08), _HEIGHTS[case.place] + rng.normal(0, 0.03)
        radius = 0.20 + 0.24 * case.severity
        level = lay(rng, size, turn=0, shift=0, zoom=0, wobble=0)
        paint = _melanoma if case.finding.label == "melanoma" else _naevus
        lesion = paint(rng, level.at((float(across), float(up))), image, case=case, radius=radius)
    _hair(rng, image, size, tone)
    image *= _light(rng, size, scope=scope)[..., None]
    image += np.float32(rng.uniform(0.008, 0.02)) * grain(rng, size)[..., None]
    shapes = [("skin", np.ones_like(lesion)), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 1 if case.finding.normal else 2], size)
    facts = replace(case, detail=f"{_TONE_NAMES[int(5 * tone)]} skin")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=False)


def _skin(rng: np.random.Generator, plane: Plane, color: Plate) -> Plate:
    """Uneven colour, the net of furrows, freckles."""
    size = plane.x.shape[0]
    shade = 1 + 0.030 * clouds(rng, size, 4, 2)
    furrows = ridge(field(rng, size, (26, 34)), 0.30) + ridge(field(rng, size, (34, 26)), 0.30)
    shade = shade - np.float32(rng.uniform(0.008, 0.03)) * furrows
    image = shade[..., None] * color
    redness = np.float32(rng.uniform(0.0, 0.10)) * cover(0.4 - field(rng, size, 5), 1.2)
    image *= 1 - redness[..., None] * np.array([0.1, 0.9, 0.8], dtype=np.float32)
    if rng.random() < 0.4:
        count = int(rng.integers(2, 9))
        freckles = splat(size, rng.uniform(-1, 1, (count, 2)), rng.uniform(0.02, 0.055, (count, 2)))
        image *= 1 - freckles[..., None] * np.array([0.18, 0.24, 0.26], dtype=np.float32)
    return image


def _naevus(rng: np.random.Generator, plane: Plane, image: Plate, *, case: Case, radius: float) -> Plate:
    """Even, round, one or two browns, an edge that fades."""
    size = plane.x.shape[0]
    bumps = 0.022 * field(rng, size, 6)
    radii = (radius, radius * rng.uniform(0.75, 1.0))
    distance = ellipse(plane, (0, 0), radii, rng.uniform(0, 3)) + bumps
    shape = cover(distance, 0.06 + plane.pixel)
    net = 0.04 * ridge(field(rng, size, 34), 0.35)
    dark = np.float32(rng.uniform(0.42, 0.62)) + net + 0.03 * case.grade * clouds(rng, size, 6, 2)
    dark = dark + 0.10 * cover(distance + 0.5 * radius, 0.7 * radius)
    image *= 1 - (shape * dark)[..., None] * np.array([0.72, 0.98, 1.06], dtype=np.float32)
    return shape


def _melanoma(rng: np.random.Generator, plane: Plane, image: Plate, *, case: Case, radius: float) -> Plate:
    """Asymmetric, notched, several colours: brown, black, blue-gray, red."""
    size = plane.x.shape[0]
    notches = clouds(rng, size, 6, 3)
    lobe = rng.uniform(-0.5, 0.5, 2) * radius
    body = np.minimum(
        ellipse(plane, (0, 0), (radius, radius * rng.uniform(0.6, 0.9)), rng.uniform(0, 3)),
        ellipse(plane, (float(lobe[0]), float(lobe[1])), (0.7 * radius, 0.8 * radius)),
    )
    distance = body + (0.026 + 0.010 * case.grade) * notches
    shape = cover(distance, 0.035 + plane.pixel)
    patches = clouds(rng, size, 5, 3)
    dark = np.float32(rng.uniform(0.52, 0.70)) + 0.12 * patches + 0.05 * (case.grade - 2)
    image *= 1 - (shape * dark)[..., None] * np.array([0.80, 1.0, 1.04], dtype=np.float32)
    tint(image, (0.36, 0.40, 0.48), 0.6 * shape * cover(0.75 - patches, 0.5))
    tint(image, (0.66, 0.26, 0.24), 0.45 * shape * cover(0.9 + field(rng, size, 5), 0.5))
    tint(image, (0.08, 0.05, 0.05), 0.8 * shape * cover(1.0 - field(rng, size, 7), 0.4))
    return shape


def _hair(rng: np.random.Generator, image: Plate, size: int, tone: float) -> None:
    """Curved hairs that grow about the same way."""
    pen = Pen(size)
    way = rng.uniform(0, 2 * np.pi)
    t = np.linspace(0, 1, 7)[:, None]
    for _ in range(int(rng.choice((0, 3, 6, 10), p=(0.3, 0.3, 0.25, 0.15)))):
        start, turn = rng.uniform(-1, 1, 2), way + rng.normal(0, 0.35)
        ahead = np.array([np.cos(turn), np.sin(turn)])
        side = np.array([-ahead[1], ahead[0]]) * rng.uniform(0.05, 0.3)
        pen.line(start + t * ahead * rng.uniform(0.4, 1.0) + t * t * side, 0.016, 0.85)
    dark = 0.20 * (1 - 0.5 * tone)
    tint(image, (dark, 0.7 * dark, 0.55 * dark), pen.plate())


def _light(rng: np.random.Generator, size: int, *, scope: bool) -> Plate:
    """Slanting light, or the round field of a dermatoscope with dark corners."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    across, down = rng.normal(0, 0.07, 2).astype(np.float32)
    light = np.float32(rng.uniform(0.92, 1.06)) * (1 + across * x + down * y - 0.05 * (x * x + y * y))
    if scope:
        rim = np.sqrt(x * x + y * y) - np.float32(rng.uniform(1.02, 1.2))
        light = light * (1 - 0.06 * (x * x + y * y)) * cover(rim, 0.04 + 2 / size)
    return light
