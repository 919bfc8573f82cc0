"""Axial slice of the abdomen after contrast: liver, kidneys, spleen, spine, table; metastasis or cyst."""

from dataclasses import replace

import numpy as np

from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Plane,
    Plate,
    clouds,
    cover,
    ellipse,
    field,
    grain,
    label_map,
    lay,
    lerp,
    ridge,
    to_pixels,
)

_AIR, _FAT, _MUSCLE, _ORGAN, _BONE = 0.0, 0.26, 0.50, 0.60, 0.98


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """The slice is seen from the feet: the patient's left is on the right of the picture."""
    plane = lay(rng, size, turn=0.04, shift=0.025, zoom=0.04, wobble=0.018)
    soft = 0.012 + 1.5 * plane.pixel
    portal = bool(rng.random() < 0.6)
    image, cavity = _trunk(rng, plane, soft)
    image = lerp(image, _bowel(rng, plane), cover(cavity, 0.04))
    lumpy = 0.02 * field(rng, size, 6)
    liver = cover(np.maximum(_liver(rng, plane) + lumpy, cavity), soft)
    spleen = cover(np.maximum(ellipse(plane, (0.56, 0.02), (0.15, 0.27), 0.35) + lumpy, cavity), soft)
    image = lerp(image, _ORGAN + 0.02 * clouds(rng, size, 10, 2) + _vessels(rng, plane), liver)
    image = lerp(image, _ORGAN + 0.06 + 0.03 * portal * field(rng, size, 8), spleen)
    image = lerp(image, *_stomach(rng, plane, soft))
    lesion = np.zeros_like(image)
    if case.finding.label == "liver metastasis":
        image, lesion = _metastasis(rng, plane, image, case)
        lesion = lesion * liver
    image, kidney = _kidneys(rng, plane, image, portal=portal)
    lesion = lesion * (1 - kidney)
    image = _midline(rng, plane, image, soft)
    if case.finding.label == "renal cyst":
        image, lesion = _cyst(rng, plane, image, case)
    image = _scan(rng, image, size)
    shapes = [("liver", liver), ("spleen", spleen), ("kidney", kidney), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 3 if case.finding.normal else 4], size)
    facts = replace(case, detail="portal venous phase" if portal else "arterial phase")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=True)


def _trunk(rng: np.random.Generator, plane: Plane, soft: float) -> tuple[Plate, Plate]:
    """Skin, fat, muscle wall with ribs, and the signed distance to the peritoneal cavity."""
    fat = rng.uniform(0.03, 0.11)
    outer = ellipse(plane, (0, 0), (0.93, 0.68))
    outer = np.maximum(outer, plane.y - 0.60)
    wall = np.maximum(ellipse(plane, (0, 0.01), (0.90 - fat, 0.64 - 0.9 * fat)), plane.y - 0.555)
    cavity = np.maximum(wall + 0.055, plane.y - 0.43)
    body = cover(outer, soft)
    image = body * _FAT + 0.2 * ridge(outer + 0.01, 0.018)
    image = lerp(image, _MUSCLE - 0.02, cover(wall, soft))
    image = lerp(image, _FAT, cover(np.abs(plane.x) - 0.5, 0.1) * ridge(plane.y - 0.42, 0.03) * 0.6)
    turn = np.arctan2(plane.y * 1.35, plane.x)
    ribs = cover(np.cos(turn * 15 + rng.uniform(0, 6)) * -1 + 0.62, 0.5) * ridge(wall + 0.022, 0.024)
    ribs = ribs * cover(-np.abs(plane.x) + 0.36, 0.1)
    return lerp(image, 0.88, ribs), cavity


def _bowel(rng: np.random.Generator, plane: Plane) -> Plate:
    """Loops of bowel in fat; some hold gas."""
    size = plane.x.shape[0]
    loops = field(rng, size, 9)
    wall = 0.16 * ridge(np.abs(loops) - 0.55, 0.22)
    inside = cover(0.55 - np.abs(loops), 0.2) * 0.20
    gas = cover(1.35 - loops, 0.2) * cover(plane.y + 0.12, 0.1)
    return (_FAT + 0.02 + wall + inside) * (1 - gas)


def _liver(rng: np.random.Generator, plane: Plane) -> Plate:
    right = ellipse(plane, (-0.46, -0.02), (0.40, 0.43), 0.12)
    left = ellipse(plane, (-0.10 + rng.uniform(-0.05, 0.05), -0.30), (0.36, 0.15), 0.10)
    return np.minimum(right, left)


def _vessels(rng: np.random.Generator, plane: Plane) -> Plate:
    """Portal and hepatic veins: bright lines of a noise's zero crossings, thickest at the hilum."""
    lines = ridge(field(rng, plane.x.shape[0], 7), 0.16)
    return 0.10 * lines * cover(ellipse(plane, (-0.38, -0.06), (0.12, 0.12)), 0.5)


def _stomach(rng: np.random.Generator, plane: Plane, soft: float) -> tuple[Plate, Plate]:
    """Stomach with a level: gas lies in front of food. Returns its gray values and its coverage."""
    shape = ellipse(plane, (0.36, -0.27), (0.26, 0.17), 0.35)
    level = -0.30 + rng.uniform(-0.08, 0.08)
    food = 0.42 + 0.05 * field(rng, plane.x.shape[0], 12)
    gas = cover(plane.y - level, soft) * cover(shape + 0.035, soft)
    return food * (1 - gas) + 0.16 * ridge(shape + 0.018, 0.022) * (1 - gas), cover(shape, soft)


def _kidneys(rng: np.random.Generator, plane: Plane, image: Plate, *, portal: bool) -> tuple[Plate, Plate]:
    """Two beans open to the spine; cortex and medulla differ in the arterial phase."""
    both = np.zeros_like(image)
    soft = 0.012 + 1.5 * plane.pixel
    for sign in (-1, 1):
        centre = (sign * (0.34 + rng.normal(0, 0.01)), 0.24 + 0.02 * sign)
        shape = ellipse(plane, centre, (0.145, 0.175), -0.4 * sign)
        sinus = ellipse(plane, (centre[0] - sign * 0.09, centre[1] - 0.02), (0.085, 0.07))
        fat = cover(shape - 0.05, 0.05)
        body = cover(shape, soft) * (1 - cover(sinus, 2 * soft))
        medulla = cover(shape + 0.06, 0.04) * (0.05 if portal else 0.22)
        image = lerp(lerp(image, _FAT, fat), 0.84 - medulla, body)
        both = np.maximum(both, body)
    return image, both


def _midline(rng: np.random.Generator, plane: Plane, image: Plate, soft: float) -> Plate:
    """Vertebra with canal and processes, psoas and back muscles, aorta, vena cava, pancreas."""
    x, y = np.abs(plane.x), plane.y
    image = lerp(image, _MUSCLE, cover(ellipse(plane, (0, 0.50), (0.34, 0.10)), soft))
    fold = Plane(x, y, plane.pixel)
    image = lerp(image, _MUSCLE, cover(ellipse(fold, (0.17, 0.28), (0.08, 0.10)), soft))
    pancreas = ellipse(plane, (0.06, -0.09), (0.24, 0.055), -0.25)
    image = lerp(image, 0.52 + 0.04 * field(rng, plane.x.shape[0], 16), cover(pancreas, 2 * soft))
    vertebra = ellipse(plane, (0, 0.27), (0.135, 0.115))
    image = lerp(image, 0.74, cover(vertebra, soft))
    image = np.maximum(image, _BONE * ridge(vertebra + 0.01, 0.025))
    arch = ridge(ellipse(plane, (0, 0.42), (0.085, 0.065)), 0.03)
    processes = cover(np.maximum(np.abs(y - 0.40 - 0.12 * x) - 0.02, x - 0.21), soft) * cover(0.07 - x, 0.02)
    spike = cover(np.maximum(x - 0.022, np.abs(y - 0.51) - 0.06), soft)
    image = np.maximum(image, 0.93 * np.maximum(np.maximum(arch, processes), spike))
    image = lerp(image, 0.45, cover(ellipse(plane, (0, 0.42), (0.055, 0.04)), soft))
    image = lerp(image, 0.86, cover(ellipse(plane, (0.05, 0.105), (0.062, 0.06)), soft))
    return lerp(image, 0.70, cover(ellipse(plane, (-0.11, 0.10), (0.075, 0.055)), soft))


def _metastasis(rng: np.random.Generator, plane: Plane, image: Plate, case: Case) -> tuple[Plate, Plate]:
    front = case.place == "anterior"
    centre = (rng.uniform(-0.56, -0.40), rng.uniform(-0.26, -0.18) if front else rng.uniform(0.06, 0.14))
    radius = 0.09 + 0.11 * case.severity
    rough = 0.016 * (case.grade - 1) * clouds(rng, plane.x.shape[0], 14, 2)
    distance = ellipse(plane, centre, (radius, radius * rng.uniform(0.8, 1.15)), rng.uniform(0, 3)) + rough
    shape = cover(distance, 0.02 * case.grade + 2 * plane.pixel)
    dark = np.float32(_ORGAN - rng.uniform(0.17, 0.26))
    core = cover(distance + 0.5 * radius, 0.08) * np.float32(0.06)
    rim = 0.05 * ridge(distance, 0.03)
    return lerp(image, dark - core, 0.9 * shape) + rim, shape


def _cyst(rng: np.random.Generator, plane: Plane, image: Plate, case: Case) -> tuple[Plate, Plate]:
    sign = 1 if case.side == "left" else -1
    radius = 0.085 + 0.09 * case.severity
    angle = rng.uniform(-1.1, 1.2)
    centre = (sign * (0.35 + 0.12 * np.cos(angle)), 0.24 + 0.15 * np.sin(angle))
    distance = ellipse(plane, (float(centre[0]), float(centre[1])), (radius, radius * rng.uniform(0.9, 1.1)))
    shape = cover(distance, 0.012 + 1.5 * plane.pixel)
    septum = ridge(plane.at((float(centre[0]), float(centre[1]))).x + 0.3 * plane.at(centre).y, 0.012)
    value = 0.33 + 0.06 * (case.grade - 1) * septum + 0.07 * ridge(distance + 0.008, 0.016)
    return lerp(image, value, shape), shape


def _scan(rng: np.random.Generator, image: Plate, size: int) -> Plate:
    """Table under the patient, window, detector streaks, correlated noise."""
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = line[None, :], line[:, None]
    sag = y - np.float32(rng.uniform(0.73, 0.77)) + 0.16 * x * x
    table = ridge(sag, 0.018) + 0.6 * ridge(sag - 0.11, 0.016)
    image = np.maximum(image, 0.42 * table * (np.abs(x) < 0.72))
    streaks = field(rng, size, (40, 3)) * np.float32(rng.uniform(0.0, 0.02))
    image = (image - 0.5) * np.float32(rng.uniform(0.85, 1.3)) + np.float32(0.5 + rng.uniform(-0.06, 0.04))
    image = image + streaks * (image > 0.1)
    circle = x * x + y * y < 1.12
    noise = np.float32(rng.uniform(0.02, 0.05)) * (
        0.5 * grain(rng, size) + 0.8 * field(rng, size, 3 * size // 4)
    )
    return (image + noise * (0.3 + np.minimum(image, 0.7))) * circle
