"""Frontal chest radiograph: lungs, ribs, heart, spine; nodule or effusion."""

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
    glow,
    grain,
    label_map,
    lay,
    letter,
    ridge,
    splat,
    to_pixels,
)

_ZONES = {"upper": -0.36, "middle": -0.02, "lower": 0.3}


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """A chest as seen from the front: the patient's left is on the right of the picture."""
    portable = bool(rng.random() < 0.3)
    plane = lay(rng, size, turn=0.04, shift=0.04, zoom=0.05, wobble=0.014)
    soft = 3 * plane.pixel
    lungs, dome = _lungs(rng, plane)
    lung = cover(lungs, 0.03 + soft)
    heart = cover(_heart(rng, plane, portable=portable), 0.04 + soft)
    lesion = np.zeros_like(lung)
    airless = 0.85 * heart
    if case.finding.label == "pleural effusion":
        lesion = _effusion(plane, case) * cover(lungs - 0.015, 0.03 + soft)
        airless = np.maximum(airless, 0.97 * lesion)
    image = _body(plane) - _air(rng, plane, lung * (1 - airless))
    image += 0.05 * heart + 0.06 * lesion + _mediastinum(rng, plane)
    image += _ribs(rng, plane) * (0.4 + 0.6 * lung) * (1 - 0.6 * airless)
    image += 0.10 * cover(-dome, 0.04 + soft) * cover(np.abs(plane.x) - 0.8, 0.2)
    if case.finding.label == "lung nodule":
        lesion = _nodule(rng, plane, case)
        image += (0.23 + 0.08 * rng.random()) * lesion * (1 - 0.6 * heart)
    image = _film(rng, image, size, portable=portable)
    shapes = [("lung", lung), ("heart", heart), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 2 if case.finding.normal else 3], size)
    facts = replace(case, detail="portable film" if portable else "upright film")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=True)


def _lungs(rng: np.random.Generator, plane: Plane) -> tuple[Plate, Plate]:
    """Signed distances to both lungs and to the diaphragm (positive below it)."""
    breath = rng.normal(0.0, 0.05)
    across, height = np.abs(plane.x), plane.y
    t = np.clip((height + 0.82) * np.float32(1 / 1.3), 0, 1)
    lateral = 0.77 * np.sqrt(t * (1.75 - 0.75 * t))
    medial = 0.10 + 0.05 * t
    curve = (across - 0.36) ** 2
    dome = height - (0.50 + breath) - 0.95 * curve - np.float32(0.05) * (plane.x > 0)
    outside = np.maximum(np.maximum(across - lateral, medial - across), np.maximum(dome, -height - 0.78))
    return outside, dome


def _heart(rng: np.random.Generator, plane: Plane, *, portable: bool) -> Plate:
    """Signed distance to the heart: left ventricle and right atrium; a bedside film enlarges it."""
    grow = rng.normal(1.0, 0.07) + 0.12 * portable
    ventricle = ellipse(plane, (0.15, 0.31), (0.34 * grow, 0.25 * grow), 0.5)
    return np.minimum(ventricle, ellipse(plane, (0.0, 0.22), (0.22 * grow, 0.34)))


def _body(plane: Plane) -> Plate:
    across, height = np.abs(plane.x), plane.y
    slope = np.clip((-height - 0.52) * np.float32(1 / 0.42), 0, 1)
    half = 0.97 - 0.66 * slope * slope * (3 - 2 * slope)
    thick = np.sqrt(np.clip(1 - (across / (half + 0.06)) ** 2, 0, 1))
    return cover(across - half, 0.06) * (0.50 + 0.22 * thick + 0.06 * height)


def _air(rng: np.random.Generator, plane: Plane, lung: Plate) -> Plate:
    """How much darker the lungs are, with vessels that fan out of the hila and fade outwards."""
    size = plane.x.shape[0]
    branch = field(rng, size, (9, 14)) + 0.8 * field(rng, size, (22, 26))
    near = glow(plane, (-0.2, 0.06), 0.2) + glow(plane, (0.22, 0.02), 0.2)
    vessels = (0.16 * near + 0.03) * np.maximum(1 - np.abs(branch), 0)
    depth = 0.42 - 0.10 * np.clip(plane.y, -1, 1)
    bubble = cover(ellipse(plane, (0.42, 0.76), (0.17, 0.09), 0.2), 0.08)
    return lung * (depth - vessels) + np.float32(0.22 * rng.random()) * bubble


def _mediastinum(rng: np.random.Generator, plane: Plane) -> Plate:
    """Central shadow, aortic knob, spine with disc spaces, the dark stripe of the trachea."""
    x, y = plane.x, plane.y
    middle = cover(np.abs(x) - 0.14 - 0.03 * y, 0.1)
    knob = cover(ellipse(plane, (0.13, -0.24), (0.1, 0.12)), 0.06)
    discs = np.sin(y * np.float32(2 * np.pi / 0.17) + rng.uniform(0, 6))
    spine = cover(np.abs(x) - 0.085, 0.04) * (0.05 + 0.02 * discs)
    trachea = cover(np.abs(x - 0.01) - 0.045, 0.05) * cover(y + 0.28, 0.25)
    return 0.07 * middle + 0.10 * knob + spine - 0.13 * trachea


def _ribs(rng: np.random.Generator, plane: Plane) -> Plate:
    """Posterior ribs falling outwards, fainter anterior ones falling inwards, clavicles, scapulae."""
    across, y = np.abs(plane.x), plane.y
    step = np.float32(2 * np.pi / rng.normal(0.172, 0.006))
    phase = np.float32(rng.uniform(0, 2 * np.pi))
    bow = across - 0.34
    back = np.cos((y - 0.75 * bow * bow + 0.05 * across) * step + phase)
    front = np.cos((y - 0.62 * across - 0.30 * across * across) * (step * 0.93) + 2 * phase)
    cage = cover(across - 0.80 - 0.10 * y, 0.06) * cover(0.07 - across, 0.06) * cover(np.abs(y) - 0.80, 0.12)
    plate = np.maximum(back - 0.12, 0)
    bone = 0.105 * plate * (1.45 - plate) + 0.045 * np.maximum(front - 0.2, 0) * cover(0.30 - across, 0.3)
    clavicle = ridge(y + 0.60 + 0.16 * (across - 0.1) - 0.22 * (across - 0.45) ** 2, 0.036)
    clavicle *= cover(across - 0.74, 0.1) * cover(0.07 - across, 0.05)
    scapula = ridge(across - 0.80 + 0.10 * y, 0.03) * cover(np.abs(y + 0.28) - 0.26, 0.2)
    return bone * cage + 0.14 * clavicle + 0.06 * scapula


def _nodule(rng: np.random.Generator, plane: Plane, case: Case) -> Plate:
    size = plane.x.shape[0]
    sign = 1 if case.side == "left" else -1
    y = _ZONES[case.place] + rng.uniform(-0.07, 0.07)
    x = sign * rng.uniform(0.36, 0.52)
    radius = 0.10 + 0.13 * case.severity
    rough = 0.012 * (case.grade - 1) * clouds(rng, size, 18, 2)
    distance = ellipse(plane, (x, y), (radius, radius * rng.uniform(0.85, 1.1)))
    return cover(distance + rough, 0.05 + 3 * plane.pixel)


def _effusion(plane: Plane, case: Case) -> Plate:
    """Fluid below a level that climbs towards the chest wall: the meniscus."""
    sign = 1 if case.side == "left" else -1
    level = 0.54 - 0.52 * case.severity
    outward = np.maximum(sign * plane.x - 0.15, 0)
    surface = level + 0.10 - 0.75 * outward * outward
    half = cover(-sign * plane.x, 0.05)
    return half * cover(surface - plane.y, 0.05 + 3 * plane.pixel)


def _film(rng: np.random.Generator, image: Plate, size: int, *, portable: bool) -> Plate:
    """Exposure, leads and dots of a monitor, side marker, collimation, grain."""
    gamma = np.float32(rng.uniform(0.85, 1.35))
    gain = np.float32(rng.uniform(0.9, 1.12))
    image = np.maximum(image, 0) ** gamma * gain
    pen = Pen(size)
    if portable:
        dots = []
        for _ in range(2):
            start, end = rng.uniform((-0.8, -0.7), (0.8, 0.2)), rng.uniform((-0.9, 0.9), (0.9, 1.0))
            t = np.linspace(0, 1, 10)[:, None]
            bend = np.sin(t * np.pi) * rng.uniform(-0.3, 0.3, 2)
            pen.line(start + t * (end - start) + bend, 0.018, 0.45)
            dots.append(start)
        image = np.maximum(image, 0.55 * splat(size, np.array(dots), np.full((2, 2), 0.035)))
    if rng.random() < 0.7:
        letter(pen, "L", (0.84, -0.80), 0.19)
    image = np.maximum(image, 0.9 * pen.plate())
    margin = np.float32(rng.uniform(0.92, 1.05))
    frame = np.abs(np.linspace(-1, 1, size, dtype=np.float32))
    image = image * (frame < margin)
    return image + np.float32(rng.uniform(0.008, 0.03)) * grain(rng, size)
