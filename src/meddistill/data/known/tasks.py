"""Suite entries, as plain values: the schema of suites stands above this room and is not imported."""

from collections.abc import Mapping, Sequence

from meddistill.data.known.draft import SPLITS, Entry

_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "xray": ("{}", "a chest X-ray showing {}", "chest radiograph, {}"),
    "ct": ("{}", "a CT image of the {}", "abdominal CT, {}"),
    "oct": ("{}", "an optical coherence tomography scan showing {}", "retinal OCT, {}"),
    "fundus": ("{}", "a fundus photograph showing {}", "retinal fundus image, {}"),
    "ultrasound": ("{}", "an ultrasound image showing {}", "breast ultrasound, {}"),
    "histology": ("{}", "a histopathology image of {}", "an H&E stained image of {}"),
    "microscopy": ("{}", "a microscopy image of a {}", "a microscope image showing a {}"),
    "dermatology": ("{}", "a dermatoscopic image of {}", "a photograph of a skin lesion, {}"),
}


def templates(modality: str) -> list[str]:
    """Prompts of our own for a modality; each has one placeholder."""
    return list(_TEMPLATES.get(modality, ("{}", "a medical image showing {}")))


def zero_shot(
    name: str, table: str, classes: Mapping[str, str], *, modality: str, dataset: Sequence[str]
) -> Entry:
    """Zero-shot classification; `classes` is label → phrase, written as a list where all are equal."""
    named = all(label == phrase for label, phrase in classes.items())
    return {
        "name": f"{name}_zero_shot",
        "kind": "zero_shot",
        "dataset": list(dataset),
        "table": table,
        "classes": list(classes) if named else dict(classes),
        "templates": templates(modality),
    }


def probes(name: str, views: Mapping[str, Mapping[str, str]], *, dataset: Sequence[str]) -> list[Entry]:
    """A linear probe and nearest neighbours, where there are rows to learn from."""
    roles = _roles(name, views)
    if not {"train", "test"} <= set(roles):
        return []
    common = {"dataset": list(dataset)}
    ends = {role: roles[role] for role in ("train", "test")}
    return [
        {"name": f"{name}_linear_probe", "kind": "linear_probe", **common, **roles},
        {"name": f"{name}_knn", "kind": "knn", **common, **ends, "include_in_mean": False},
    ]


def graded(entry: Entry, classes: Sequence[str]) -> Entry:
    """The same task of classes that are grades, from the lowest up."""
    return {**entry, "classes": entry.get("classes", list(classes)), "ordinal": True}


def multilabel(
    name: str, views: Mapping[str, Mapping[str, str]], labels: Mapping[str, str], *, dataset: Sequence[str]
) -> list[Entry]:
    """Several labels an image, by prompts and by probes; `labels` is name → column of 0 and 1."""
    roles = _roles(name, views)
    common = {"dataset": list(dataset), "labels": dict(labels)}
    entries: list[Entry] = [
        {"name": f"{name}_zero_shot", "kind": "zero_shot_multilabel", **common, "table": roles["test"]}
    ]
    if "train" in roles:
        entries.append({"name": f"{name}_linear_probe", "kind": "linear_probe_multilabel", **common, **roles})
    return entries


def retrieval(name: str, table: str, *, dataset: Sequence[str]) -> Entry:
    """Image to text and text to image."""
    return {"name": f"{name}_retrieval", "kind": "retrieval", "dataset": list(dataset), "table": table}


def drawn_retrieval(name: str, table: str, *, dataset: Sequence[str], pairs: int) -> Entry:
    """The same among `pairs` drawn pairs, as others report it; beside the whole one, so not in means."""
    whole = retrieval(name, table, dataset=dataset)
    drawn = {"name": f"{whole['name']}_{pairs}", "pairs": {"n": pairs, "seed": 42}, "include_in_mean": False}
    return {**whole, **drawn}


def questions(
    name: str,
    roles: Mapping[str, str],
    *,
    dataset: Sequence[str],
    typed: bool,
    shared: bool,
    candidates: int,
) -> list[Entry]:
    """Closed-set answering with a head, and answers ranked without one; `roles` is role → table.

    `typed`: the table has kinds of questions. `shared`: splits share images, as published. `candidates` are
    ranked for a question at most: every one of them is a prompt of its own for every question, and a task
    embeds no more than 100,000.
    """
    common: Entry = {"dataset": list(dataset), "question": "question", "answer": "answer"}
    common["answer_type"] = "answer_type"
    common |= {"question_type": "question_type"} if typed else {}
    common |= {"shared_images": "report"} if shared else {}
    ranked = {**common, "max_candidates": candidates}
    return [
        {"name": f"{name}_closed_set", "kind": "vqa_closed_set", **common, **roles},
        {"name": f"{name}_ranking", "kind": "vqa_zero_shot", **ranked, **roles},
    ]


def _roles(name: str, views: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    return {split: f"{name}_{split}" for split in SPLITS if f"{name}_{split}" in views}
