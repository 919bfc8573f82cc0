"""B-scan of the macula by optical coherence tomography: layers, foveal pit; oedema or drusen."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meddistill.data.phantom.draw import (
    Case,
    Drawing,
    Plate,
    axes,
    cover,
    field,
    label_map,
    speckle,
    splat,
    stretch,
    to_pixels,
)

_INNER = (0.0, 0.10, 0.22, 0.34, 0.43, 0.49)
_INNER_GRAY = (0.62, 0.42, 0.50, 0.26, 0.46)
_OUTER = ((0.49, 0.20), (0.755, 0.40), (0.78, 0.24), (0.82, 0.74), (0.87, 0.34), (0.915, 0.92))


class _Profile(NamedTuple):
    """Heights per column: top and base of the retina (inner limiting membrane, Bruch's membrane), pit,
    lift of the pigment epithelium."""

    top: Plate
    base: Plate
    pit: Plate
    lift: Plate


def draw(rng: np.random.Generator, size: int, case: Case) -> Drawing:
    """Vitreous above, choroid below; the scan runs through the fovea."""
    x, y = axes(size)
    line = x[0]
    centre = float(rng.normal(0.0, 0.08))
    at = centre if case.place != "beside" else centre + float(rng.choice((-1, 1)) * rng.uniform(0.42, 0.55))
    profile = _profile(rng, line, centre=centre, at=at, case=case)
    image, fluid_top = _layers(rng, profile, y)
    lesion = np.zeros_like(image)
    if case.finding.label == "macular oedema":
        lesion = _cysts(rng, profile, size, at=at, case=case)
        image = image * (1 - 0.9 * lesion)
    elif case.finding.label == "drusen":
        lesion = cover(profile.base - profile.lift + 0.025 - y, 0.015) * cover(y - profile.base, 0.015)
        lesion = lesion * (profile.lift > 0.035)
        image = image + (np.float32(0.36) - image) * 0.9 * lesion
    retina = cover(profile.top - y, 0.01 + 2 / size) * cover(y - profile.base, 0.01 + 2 / size)
    image = _scan(rng, image, profile, y)
    shapes = [("retina", retina), ("choroid", fluid_top), (case.finding.structure, lesion)]
    mask, structures = label_map(shapes[: 2 if case.finding.normal else 3], size)
    facts = replace(case, detail="horizontal scan")
    return Drawing(image=to_pixels(image), mask=mask, structures=structures, facts=facts, gray=True)


def _profile(rng: np.random.Generator, line: Plate, *, centre: float, at: float, case: Case) -> _Profile:
    tilt, bow, height = rng.normal(0, 0.06), rng.uniform(0.02, 0.14), rng.normal(0.22, 0.07)
    base = height + tilt * line - bow * (1 - line * line) + bow / 2 + 0.01 * _wave(rng, line)
    thick = rng.normal(0.52, 0.025) + 0.04 * (line - centre) * rng.choice((-1, 1))
    pit = 0.93 * np.exp(-(((line - centre) / rng.uniform(0.19, 0.25)) ** 2))
    lift = np.zeros_like(line)
    swell = np.zeros_like(line)
    if case.finding.label == "macular oedema":
        swell = (0.13 + 0.26 * case.severity) * np.exp(-(((line - at) / (0.26 + 0.16 * case.severity)) ** 2))
        if case.place == "beneath":
            pit = pit * (0.75 - 0.55 * case.severity)
    if case.finding.label == "drusen":
        for _ in range(2 + case.grade):
            spot, width = at + rng.normal(0, 0.16), rng.uniform(0.07, 0.11) * (0.9 + 0.6 * case.severity)
            tall = (0.10 + 0.10 * case.severity) * rng.uniform(0.75, 1.1)
            lift = np.maximum(lift, tall * np.exp(-(((line - spot) / width) ** 2)))
    return _Profile(*(np.asarray(v, dtype=np.float32) for v in (base - thick - swell, base, pit, lift)))


def _wave(rng: np.random.Generator, line: Plate) -> NDArray[np.float64]:
    return np.sin(line * rng.uniform(4, 9) + rng.uniform(0, 6)) + 0.5 * np.sin(line * 17 + rng.uniform(0, 6))


def _layers(rng: np.random.Generator, profile: _Profile, y: Plate) -> tuple[Plate, Plate]:
    """Gray values layer by layer, each painted below its upper border; and the coverage of the choroid."""
    size = y.shape[0]
    thick = profile.base - profile.top
    steps: list[tuple[Plate, float]] = []
    hollow = profile.pit * (1 - 0.25 * profile.pit)
    for share, gray in zip(_INNER, _INNER_GRAY, strict=False):
        deep = share + (0.49 - share) * hollow * 0.93
        steps.append((profile.top + deep * thick, gray))
    for share, gray in _OUTER:
        rise = profile.lift * np.float32(min(1.0, (share - 0.49) / 0.3))
        steps.append((profile.top + share * thick - rise, gray))
    image = np.full((size, size), rng.uniform(0.03, 0.08), dtype=np.float32)
    before = float(image[0, 0])
    soft = 0.012 + 1.2 / size
    for border, gray in steps:
        image += np.float32(gray - before) * cover(border - y, soft)
        before = gray
    below = y - profile.base - 0.02
    choroid = cover(-below, 0.02)
    vessels = 0.42 + 0.13 * field(rng, size, (22, 12))
    fade = np.exp(-np.maximum(below, 0) * np.float32(rng.uniform(2.2, 4.0)))
    image += (vessels * fade - image) * choroid
    return image, choroid * cover(below - 0.24, 0.03)


def _cysts(rng: np.random.Generator, profile: _Profile, size: int, *, at: float, case: Case) -> Plate:
    """Dark, rounded spaces in the inner nuclear and Henle's fibre layers, tallest at the centre."""
    count = 3 + round(4 * case.severity) + case.grade
    across = at + rng.normal(0, 0.09 + 0.09 * case.severity, count)
    across[0] = at
    column = ((across + 1) * (size / 2)).clip(0, size - 1).astype(int)
    top, base = profile.top[column], profile.base[column]
    near = np.exp(-(((across - at) / 0.3) ** 2))
    tall = (0.06 + 0.085 * case.severity) * near * rng.uniform(0.7, 1.1, count)
    tall[0] = max(tall[0], 0.07)
    deep = top + (base - top) * rng.uniform(0.36, 0.60, count)
    radii = np.stack([np.maximum(0.62 * tall, 0.02), np.maximum(tall, 0.02)], axis=1)
    radii[0, 0] = max(radii[0, 0], 0.055)
    return splat(size, np.stack([across, deep], axis=1), radii)


def _scan(rng: np.random.Generator, image: Plate, profile: _Profile, y: Plate) -> Plate:
    """Shadows of retinal vessels, shading, speckle, contrast."""
    size = y.shape[0]
    line = axes(size)[0][0]
    shadow = np.ones_like(line)
    for _ in range(int(rng.integers(2, 6))):
        spot = rng.choice((-1, 1)) * rng.uniform(0.3, 0.95)
        shadow = shadow - rng.uniform(0.15, 0.4) * np.exp(-(((line - spot) / rng.uniform(0.015, 0.03)) ** 2))
    below = cover(profile.top + 0.05 - y, 0.06)
    image = image * (1 - (1 - shadow.astype(np.float32)) * below)
    image = image * (1 + np.float32(rng.normal(0, 0.12)) * line)
    grains = stretch(speckle(rng, (144, 104)), size)
    amount = np.float32(rng.uniform(0.40, 0.75))
    image = image * (1 - amount + amount * grains) + np.float32(rng.uniform(0.01, 0.04)) * grains
    return np.maximum(image * np.float32(rng.uniform(0.9, 1.2)), 0) ** np.float32(rng.uniform(0.75, 1.05))
