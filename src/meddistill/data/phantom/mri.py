"""Axial magnetic resonance slice of the head at the lateral ventricles; glioma or infarct."""

from dataclasses import replace
from typing import NamedTuple

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
    lerp,
    letter,
    ridge,
    to_pixels,
)

_LOBES = {"frontal": -0.40, "parietal": 0.36}


class _Weighting(NamedTuple):
    """Gray values of the tissues in one sequence."""

    name: str
    fluid: float
    gray: float
    white: float
    lesion: float
    fat: float


_SEQUENCES = (
    _Weighting("T2-weighted", 0.92, 0.56, 0.36, 0.80, 0.55),
    _Weighting("FLAIR", 0.07, 0.52, 0.40, 0.86, 0.62),
    _Weighting("T1-weighted", 0.10, 0.42, 0.62, 0.26, 0.92),
)


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """The slice is seen from the feet: the patient's left is on the right of the picture."""
    weighting = _SEQUENCES[int(rng.choice(3, p=(0.35, 0.5, 0.15)))]
    plane = lay(rng, size, turn=0.05, shift=0.025, zoom=0.04, wobble=0.012)
    soft = 0.012 + 1.5 * plane.pixel
    sign = 1 if case.side == "left" else -1
    spot = (sign * rng.uniform(0.27, 0.35), _LOBES.get(case.place, 0.0) + rng.uniform(-0.06, 0.06))
    if case.finding.label == "glioma":
        plane = _pushed(plane, spot, case)
    edge = ellipse(plane, (0, 0.01), (0.635, 0.80)) + 0.06 * np.maximum(-plane.y - 0.3, 0) * (
        plane.x * plane.x
    )
    brain = cover(edge, soft)
    image, ventricle = _brain(rng, plane, edge, weighting)
    lesion = np.zeros_like(image)
    if case.finding.label == "glioma":
        image, lesion = _glioma(rng, plane, image, case=case, spot=spot, weighting=weighting)
    elif case.finding.label == "cortical infarct":
        image, lesion = _infarct(rng, plane, image, case=case, spot=spot, edge=edge, weighting=weighting)
    lesion = lesion * brain
    image = image * brain + _skull(plane, weighting, soft)
    image = _coil(rng, image, size)
    shapes = [("brain", brain), ("ventricle", ventricle), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 2 if case.finding.normal else 3], size)
    facts = replace(case, detail=f"{weighting.name} sequence")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=True)


def _pushed(plane: Plane, spot: tuple[float, float], case: Case) -> Plane:
    """Mass effect: what lies around a tumour is moved towards the other side."""
    push = glow(plane, (0.0, spot[1]), 0.3) * np.float32(0.09 * case.severity * np.sign(spot[0]))
    return Plane(plane.x + push, plane.y, plane.pixel)


def _brain(rng: np.random.Generator, plane: Plane, edge: Plate, weighting: _Weighting) -> tuple[Plate, Plate]:
    """White matter under a folded ribbon of gray matter, sulci, fissures, deep nuclei, ventricles."""
    size = plane.x.shape[0]
    folds = field(rng, size, 17) + 0.35 * field(rng, size, 30)
    depth = -edge
    outer = cover(depth - 0.20, 0.16)
    gray = np.maximum(cover(depth - 0.075 - 0.03 * folds, 0.05), outer * ridge(folds, 0.62))
    image = np.float32(weighting.white) + (weighting.gray - weighting.white) * gray
    fold = Plane(np.abs(plane.x), plane.y, plane.pixel)
    for centre, radii, turn in (((0.13, 0.06), (0.10, 0.13), 0.3), ((0.27, -0.03), (0.06, 0.17), -0.25)):
        image = lerp(image, weighting.gray, 0.75 * cover(ellipse(fold, centre, radii, turn), 0.05))
    sulci = ridge(folds, 0.24) * cover(depth - 0.17, 0.12)
    sulci = np.maximum(sulci, ridge(depth - 0.005, 0.02))
    middle = ridge(fold.x + 0.01 * folds - 0.01, 0.016 + 0.5 * plane.pixel) * cover(
        0.34 - np.abs(plane.y), 0.1
    )
    sylvian = ridge(plane.y - 0.02 + 0.55 * (fold.x - 0.5), 0.028) * cover(0.40 - fold.x, 0.06)
    image = lerp(image, weighting.fluid, np.maximum(np.maximum(0.85 * sulci, middle), 0.9 * sylvian))
    width = rng.uniform(0.75, 1.45)
    horns = np.minimum(
        ellipse(fold, (0.085, -0.22), (0.045 * width, 0.15), 0.38),
        ellipse(fold, (0.17, 0.27), (0.045 * width, 0.15), -0.42),
    )
    horns = np.minimum(horns, ellipse(plane, (0, 0.04), (0.016 * width, 0.09)))
    caps = np.float32(0.25 * rng.random()) * cover(horns - 0.04, 0.05)
    image = image + (weighting.lesion - image) * caps
    ventricle = cover(horns, 0.012 + 1.5 * plane.pixel)
    return lerp(image, weighting.fluid, ventricle), ventricle


def _skull(plane: Plane, weighting: _Weighting, soft: float) -> Plate:
    """Scalp fat, the dark tables of the bone with marrow between them."""
    head = ellipse(plane, (0, 0.0), (0.76, 0.93))
    scalp = cover(head, soft) * cover(-head - 0.055, soft)
    marrow = 0.45 * ridge(head + 0.085, 0.016)
    return weighting.fat * np.maximum(scalp, marrow)


def _glioma(
    rng: np.random.Generator,
    plane: Plane,
    image: Plate,
    *,
    case: Case,
    spot: tuple[float, float],
    weighting: _Weighting,
) -> tuple[Plate, Plate]:
    """A lumpy mass in a halo of oedema; the higher the grade, the more it is necrotic inside."""
    lumps = clouds(rng, plane.x.shape[0], 9, 3)
    radius = 0.12 + 0.14 * case.severity
    distance = ellipse(plane, spot, (radius, 1.15 * radius), rng.uniform(0, 3)) + 0.022 * lumps
    oedema = cover(distance - 0.05 - 0.05 * lumps - 0.02 * case.grade, 0.06)
    image = lerp(image, weighting.lesion, 0.65 * oedema)
    mass = cover(distance, 0.03 + plane.pixel)
    image = lerp(image, 0.75 * weighting.lesion + 0.12 + 0.05 * lumps, 0.85 * mass)
    necrosis = cover(distance + 0.62 * radius, 0.05) * (0.35 * (case.grade - 1))
    return lerp(image, weighting.fluid, necrosis), mass


def _infarct(
    rng: np.random.Generator,
    plane: Plane,
    image: Plate,
    *,
    case: Case,
    spot: tuple[float, float],
    edge: Plate,
    weighting: _Weighting,
) -> tuple[Plate, Plate]:
    """A wedge with its base on the cortex, as wide as the territory of the closed artery."""
    angle = np.arctan2(spot[1], spot[0] * 1.25)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = plane.x * (cos * 1.25) + plane.y * sin
    across = np.abs(plane.y * cos - plane.x * (sin * 1.25))
    spread = 0.32 + 0.38 * case.severity
    ragged = 0.02 * clouds(rng, plane.x.shape[0], 12, 2)
    wedge = np.maximum(across - spread * along, -edge - 0.20 - 0.20 * case.severity) + ragged
    shape = cover(np.maximum(wedge, 0.06 - along), 0.03 + plane.pixel)
    strength = np.float32(0.50 + 0.13 * case.grade)
    return lerp(image, weighting.lesion, strength * shape), shape


def _coil(rng: np.random.Generator, image: Plate, size: int) -> Plate:
    """Uneven coil sensitivity, contrast, side marker, Rician noise."""
    bias = 1 + np.float32(rng.uniform(0.03, 0.12)) * field(rng, size, 3)
    image = image * bias * np.float32(rng.uniform(0.85, 1.15))
    image = np.maximum(image, 0) ** np.float32(rng.uniform(0.85, 1.25))
    if rng.random() < 0.4:
        pen = Pen(size)
        letter(pen, "R", (-0.90, rng.uniform(-0.1, 0.1)), 0.15)
        image = np.maximum(image, 0.85 * pen.plate())
    noise = np.float32(rng.uniform(0.01, 0.04))
    return np.hypot(image + noise * grain(rng, size), noise * grain(rng, size))
