"""The recipes of the study of AMMKD, one for each part."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from studies.ammkd_arms import (
    CONTEXT,
    FIRST,
    OBJECTIVES,
    SECOND,
    STUDENT,
    STUDENT_CAPTIONS,
    STUDENT_TRAINING,
    TEACHER_EPOCHS,
    TEACHERS,
    TRAINING,
    UNIFORM,
    VIEWS,
    VOCABULARY,
    WEIGHTED,
    Arm,
    Model,
)

STORE: Final = "store"
PAIRS: Final = "pairs.csv"
FUSION: Final = {"method": "fusion", "epochs": 20}
_RECIPE: Final = {"licence_policy": "any", "bundle": None}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What makes the study small, to see that it runs: images a split, epochs and pixels of every part.

    With none of them the study has its own size.
    """

    images: int | None = None
    epochs: int | None = None
    image_size: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is made smaller."""
        return self == Scale()


def medical_captions(folder: Path) -> dict[str, Any]:
    """The captions, no templates, of the test split of `folder`'s pairs."""
    columns = {"image": "image", "text": "text", "patient": "patient_id"}
    where = {"split": "test", "source": "caption"}
    return {
        "table": str((folder / PAIRS).resolve()),
        "root": str(folder.resolve()),
        **columns,
        "where": where,
    }


class Recipes:
    """Makes the recipe of each part."""

    def __init__(self, data: Path, encoders: Path, scale: Scale) -> None:
        self.data, self.encoders, self.scale = data.resolve(), encoders.resolve(), scale

    def table(self, split: str, captions: Sequence[str] = ()) -> dict[str, Any]:
        """One split of the pairs, or of some captions; an image stands where other studies have a patient."""
        columns = {"image": "image", "text": "text", "patient": "patient_id"}
        where = {"split": split, **({"caption_index": list(captions)} if captions else {})}
        return {"table": PAIRS, "root": str(self.data), **columns, "where": where}

    def teacher(self, name: str) -> dict[str, Any]:
        """A teacher: an encoder with its weights and a text tower from scratch, trained on the pairs."""
        stage = self._stage("contrastive", epochs=TEACHER_EPOCHS, seed=0)
        return self._recipe(TEACHERS[name], [stage], captions=())

    def store(self) -> dict[str, Any]:
        """Both teachers' outputs for the pairs of train and of validation, once for all students."""
        teachers = {name: self._trained(name) for name in (FIRST, SECOND)}
        recipe = self._recipe(STUDENT, [self._distill(WEIGHTED[UNIFORM], seed=0)])
        recipe["data"]["validation"] = self.table("val")
        return {**recipe, "teachers": teachers}

    def student(self, name: str, arm: Arm, seed: int) -> dict[str, Any]:
        """A student that learns alone, or from teachers in the store."""
        if not arm.teachers:
            stage = self._stage("contrastive", epochs=arm.epochs, seed=seed)
            return self._recipe(arm.model, [{**stage, **STUDENT_TRAINING}])
        stages = [self._distill(arm, seed)]
        if arm.fusion is not None:
            fusion = {**self._stage("fusion", epochs=FUSION["epochs"], seed=seed), "name": name, **arm.fusion}
            stages.insert(0, fusion)
        recipe = self._recipe(arm.model, stages)
        if arm.fusion is not None and "patience" in arm.fusion:
            recipe["data"]["validation"] = self.table("val")
        stored = {"kind": "stored", "store": f"{STORE}/features", "licence": "proprietary"}
        return {**recipe, "teachers": dict.fromkeys(arm.teachers, stored)}

    def suite(self, name: str, table: Mapping[str, Any]) -> dict[str, Any]:
        """Retrieval among all images and captions of a table."""
        task = {"name": "retrieval", "kind": "retrieval", "table": "pairs", "train_overlap": "report"}
        return {"name": f"ammkd_{name}", "tables": {"pairs": dict(table)}, "tasks": [task]}

    def digest(self, recipe: Mapping[str, Any]) -> str:
        """What a part's figures belong to: its recipe and, where it has teachers, theirs.

        Without the places of the folders.
        """
        whole = [recipe, *([self.teacher(each) for each in TEACHERS] if recipe.get("teachers") else [])]
        words = json.dumps([whole, self.scale.images], sort_keys=True)
        for name, folder in (("data", self.data), ("encoders", self.encoders)):
            words = words.replace(str(folder), name)
        return sha256(words.encode()).hexdigest()[:12]

    def _distill(self, arm: Arm, seed: int) -> dict[str, Any]:
        stage = self._stage("embedding", epochs=arm.epochs, seed=seed)
        return {**stage, **STUDENT_TRAINING, "objectives": OBJECTIVES, **arm.options}

    def _stage(self, method: str, *, epochs: int, seed: int) -> dict[str, Any]:
        epochs = self.scale.epochs or epochs
        return {"name": "train", "method": method, "epochs": epochs, **TRAINING, "seed": seed}

    def _recipe(
        self, model: Model, stages: list[dict[str, Any]], captions: Sequence[str] = STUDENT_CAPTIONS
    ) -> dict[str, Any]:
        data = {"train": self.table("train", captions), "licences": {"Flickr8k": "unknown"}}
        features = {"view_policy": VIEWS}
        student = self._model(model)
        return {"data": data, "features": features, "student": student, "stages": stages, **_RECIPE}

    def _model(self, model: Model) -> dict[str, Any]:
        start = (
            {"image_tower": model.image_tower}
            if model.encoder is None
            else {"init": str(self.encoders / model.encoder), "init_licence": "Apache-2.0"}
        )
        return {
            **start,
            "image_size": self.scale.image_size or model.image_size,
            "embed_dim": model.embed_dim,
            "text": {**model.text, "context_length": CONTEXT, "vocabulary": VOCABULARY},
        }

    def _trained(self, name: str) -> dict[str, Any]:
        model = f"local-dir:teacher_{name}_seed0/student"
        return {"kind": "open_clip", "model": model, "licence": "proprietary"}
