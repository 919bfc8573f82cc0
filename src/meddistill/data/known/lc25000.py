"""LC25000: histology of lung and colon in five folders."""

from typing import Final

from meddistill.data.known import tasks
from meddistill.data.known.draft import Draft, DraftTable, Row
from meddistill.data.known.source import IMAGE_SUFFIXES, Source

_FOLDERS: Final = {
    "lung": ("lung_aca", "lung_n", "lung_scc"),
    "colon": ("colon_aca", "colon_n"),
}
_PHRASES: Final = {
    "lung_aca": "lung adenocarcinoma",
    "lung_n": "benign lung tissue",
    "lung_scc": "lung squamous cell carcinoma",
    "colon_aca": "colon adenocarcinoma",
    "colon_n": "benign colonic tissue",
}
_ROLES: Final = {"image": "image", "modality": "modality"}


def draft(source: Source) -> Draft:
    """All images, to be evaluated zero-shot, lung and colon by themselves.

    The set has no split and no patients, and its 25,000 images were made from 1,250 by turning and mirroring:
    any random split has the same tissue on both sides. So there is no probe.
    """
    top = source.first("lung_colon_image_set")
    base = "" if top is None else f"{top.name}/"
    places = {
        label: f"{base}{organ}_image_sets/{label}" for organ, labels in _FOLDERS.items() for label in labels
    }
    missing = [place for place in places.values() if source.first(place) is None]
    if missing:
        raise source.not_that_layout(missing)
    rows: list[Row] = [
        {
            "image": source.cell(path),
            "organ": organ,
            "label": label,
            "modality": "histology",
            "split": "test",
        }
        for organ, labels in _FOLDERS.items()
        for label in labels
        for path in sorted((source.folder / places[label]).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not rows:
        raise source.not_that_layout(["images in its five folders"])
    made = Draft(notes=["no split is published, and images are turned copies of one another: no probe"])
    views = {f"lc25000_{organ}": {"organ": organ} for organ in _FOLDERS}
    made.tables.append(DraftTable(name="lc25000", rows=rows, views=views, roles=_ROLES))
    for organ, labels in _FOLDERS.items():
        classes = {label: _PHRASES[label] for label in labels}
        name = f"lc25000_{organ}"
        made.tasks.append(tasks.zero_shot(name, name, classes, modality="histology", dataset=("LC25000",)))
    return made
