"""Section of the colonic mucosa in haematoxylin and eosin: glands, nuclei; colitis or carcinoma."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats
from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Pen,
    Plate,
    Point,
    clouds,
    cover,
    ellipse,
    field,
    grain,
    label_map,
    lay,
    ridge,
    splat,
    to_pixels,
)

_HALVES: dict[str, Point] = {
    "upper half": (0.0, -0.5),
    "lower half": (0.0, 0.5),
    "left half": (-0.5, 0.0),
    "right half": (0.5, 0.0),
    "": (0.0, 0.0),
}
_CORNERS = 20
_ANGLES = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """Two dyes absorb light: haematoxylin (nuclei) and eosin (the rest); the colour is their product."""
    centres, radii, sick = _glands(rng, case)
    outer, lumen, walls = _outlines(rng, centres, radii, sick=sick, case=case)
    tumour, gland, hollow = _filled(size, outer[sick]), _filled(size, outer[~sick]), _filled(size, lumen)
    both = np.maximum(tumour, gland)
    hollow = hollow * (1 - 0.25 * tumour)
    nuclei = np.maximum(_stroma_nuclei(rng, size, case) * (1 - both), _lining(rng, size, walls, sick))
    lesion = tumour if case.finding.label == "adenocarcinoma" else _region(rng, size, case) * (1 - gland)
    image = _stain(rng, both - hollow, hollow, nuclei=nuclei, tumour=tumour)
    shapes = [("gland", gland), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 1 if case.finding.normal else 2], size)
    facts = replace(case, detail="haematoxylin and eosin stain")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=False)


def _filled(size: int, outlines: Floats) -> Plate:
    pen = Pen(size)
    pen.shapes(outlines, np.ones(len(outlines)))
    return pen.plate()


def _stretch(case: Case) -> Point:
    """The patch of disease is longer along the edge of the field."""
    return (1.35, 1.0) if case.place.startswith(("upper", "lower")) else (1.0, 1.35)


def _region(rng: np.random.Generator, size: int, case: Case) -> Plate:
    """Where the disease is: a lumpy patch in one half of the field."""
    plane = lay(rng, size, turn=0, shift=0, zoom=0, wobble=0.05)
    radius = 0.34 + 0.42 * case.severity
    wide, tall = _stretch(case)
    return cover(ellipse(plane, _HALVES[case.place], (wide * radius, tall * radius)), 0.05)


def _glands(rng: np.random.Generator, case: Case) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Centres (m, 2), radii (m, 2), and which are malignant; a tumour crowds its glands."""
    step = rng.uniform(0.76, 0.92)
    lattice = np.array([(i + 0.5 * (j % 2), 0.88 * j) for j in range(-2, 3) for i in range(-2, 3)])
    centres = lattice * step + rng.uniform(-0.3, 0.3, 2) + rng.normal(0, 0.05, lattice.shape)
    sick = np.zeros(len(centres), dtype=bool)
    if case.finding.label == "adenocarcinoma":
        spread = rng.uniform(-1, 1, (7, 2)) * (0.30 + 0.45 * case.severity) * np.array(_stretch(case))
        spread = spread[: 3 + round(4 * case.severity)] + np.array(_HALVES[case.place])
        far = np.abs(centres[:, None] - spread[None]).max(axis=2).min(axis=1) > 0.45
        centres = np.concatenate([centres[far], spread])
        sick = np.arange(len(centres)) >= far.sum()
    radii = np.where(sick[:, None], rng.uniform(0.20, 0.40, (len(centres), 2)), 0.39 * step)
    radii = radii * rng.uniform(0.86, 1.14, radii.shape)
    near = np.abs(centres).max(axis=1) < 1.0 + radii.max(axis=1)
    return centres[near], radii[near], sick[near]


def _outlines(
    rng: np.random.Generator, centres: Floats, radii: Floats, *, sick: NDArray[np.bool_], case: Case
) -> tuple[Floats, Floats, Floats]:
    """Outer walls, lumina, and the places along the walls where nuclei stand, all (m, corners, 2)."""
    count = len(centres)
    waves, phase = np.arange(2, 6), rng.uniform(0, 2 * np.pi, (count, 4, 1))
    rough = np.where(sick, 0.09 + 0.03 * case.grade, 0.035)[:, None]
    height = rng.normal(0, 1, (count, 4, 1))
    bend = 1 + rough * (height * np.cos(waves[None, :, None] * _ANGLES + phase)).sum(axis=1) / 1.4
    circle = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    wall = circle[None] * radii[:, None] * bend[..., None]
    open_share = np.where(sick, rng.uniform(0.1, 0.55, count), rng.uniform(0.30, 0.46, count))[:, None, None]
    shift = np.where(sick, 0.05, 0.0)[:, None, None] * rng.standard_normal((count, 1, 2))
    loose = rng.uniform(0.58, 1.0, (count, _CORNERS))
    depth = np.where(sick[:, None], loose, rng.uniform(0.84, 0.9, (count, _CORNERS)))
    middle = centres[:, None]
    return middle + wall, middle + wall * open_share + shift, middle + wall * depth[..., None]


def _lining(rng: np.random.Generator, size: int, walls: Floats, sick: NDArray[np.bool_]) -> Plate:
    """Nuclei of the glands: a palisade in health; large, dark and in disorder in a tumour."""
    ill = np.repeat(sick, _CORNERS)
    count = len(ill)
    long = np.where(ill, rng.uniform(0.040, 0.068, count), 0.046)
    wide = np.where(ill, rng.uniform(0.024, 0.042, count), 0.027)
    turn = np.tile(_ANGLES, len(sick)) + np.where(ill, 0.7, 0.12) * rng.standard_normal(count)
    ink = np.where(ill, rng.uniform(0.7, 1.0, count), rng.uniform(0.62, 0.85, count))
    return splat(size, walls.reshape(-1, 2), np.stack([long, wide], axis=1), turns=turn, values=ink)


def _stroma_nuclei(rng: np.random.Generator, size: int, case: Case) -> Plate:
    """Spindle cells, scattered lymphocytes, and the crowd of lymphocytes of an inflammation."""
    spindles = rng.uniform(-1, 1, (36, 2))
    thin = np.stack([rng.uniform(0.03, 0.055, 36), np.full(36, 0.012)], axis=1)
    turn, ink = rng.normal(0.4, 0.9, 36), rng.uniform(0.45, 0.7, 36)
    plate = splat(size, spindles, thin, turns=turn, values=ink)
    crowd = rng.uniform(-1, 1, (int(rng.integers(20, 60)), 2))
    if case.finding.label == "colitis":
        dense = rng.uniform(-1, 1, (round((90 + 70 * case.grade) * (0.4 + case.severity)), 2))
        radius = (0.34 + 0.42 * case.severity) * np.array(_stretch(case))
        dense = dense[(dense * dense).sum(axis=1) < 1] * radius + np.array(_HALVES[case.place])
        crowd = np.concatenate([crowd, dense])
    round_radii = np.repeat(rng.uniform(0.023, 0.031, (len(crowd), 1)), 2, axis=1)
    return np.maximum(plate, splat(size, crowd, round_radii, values=rng.uniform(0.8, 1.0, len(crowd))))


def _stain(rng: np.random.Generator, cells: Plate, hollow: Plate, *, nuclei: Plate, tumour: Plate) -> Plate:
    """Transmitted light exp(-(h H + e E)) with absorption vectors near those of Ruifrok and Johnston."""
    size = cells.shape[0]
    fibres = 0.10 * field(rng, size, (14, 40)) + 0.07 * field(rng, size, (40, 18))
    eosin = 0.46 + fibres - 0.18 * ridge(clouds(rng, size, 9, 2), 0.18)
    cytoplasm = 0.30 + 0.06 * field(rng, size, 36) + 0.14 * tumour
    eosin = eosin + np.minimum(cells + hollow, 1) * (cytoplasm - eosin)
    eosin = np.maximum(eosin * (1 - 0.93 * hollow), 0.02)
    blue = 0.05 + (0.09 + 0.14 * tumour) * np.maximum(cells, 0)
    chromatin = nuclei * (0.92 + 0.14 * field(rng, size, 60))
    strength = rng.uniform(0.8, 1.3, 2).astype(np.float32)
    haematoxylin = np.array([1.02, 1.18, 0.52], dtype=np.float32) + rng.normal(0, 0.05, 3).astype(np.float32)
    pink = np.array([0.14, 0.86, 0.34], dtype=np.float32) + rng.normal(0, 0.04, 3).astype(np.float32)
    density = (blue + chromatin)[..., None] * (strength[0] * haematoxylin)
    density += (eosin * (1 - 0.5 * nuclei))[..., None] * (strength[1] * pink)
    image = np.exp(-np.maximum(density, 0)) * np.float32(rng.uniform(0.93, 0.99))
    return image + np.float32(rng.uniform(0.006, 0.018)) * grain(rng, size)[..., None]
