"""A teacher on paper: who it is, what it wants to see, what it can do, under what terms. Loads no torch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, model_serializer, model_validator

from meddistill.imaging.geometry import InputSpec
from meddistill.licences import LicenceTerms
from meddistill.signals import Signal
from meddistill.strict import Strict
from meddistill.tree_difference import ABSENT, tree_differences

_IDENTITY: Final = (
    "kind",
    "weights_sha256",
    "input",
    "centre_crop",
    "tokenizer_sha256",
    "context_length",
    "options",
    "precision",
    "dims",
)
# The keys of dims in JSON: those of format 1 of the feature store, and of fingerprints.
_WRITTEN_DIMS: Final[Mapping[Signal, str]] = {
    "image": "image_dim",
    "text": "text_dim",
    "patches": "patch_dim",
}

DERIVED: Final = "derived"


class TeacherCard(Strict):
    """What is known of a loaded teacher; travels into the feature store, checkpoints and bundles.

    `source` is a hub id, an architecture name or the last part of a local path: never a whole path, which
    would tell about the machine. `input` is the raster that the teacher is given; `centre_crop` (height,
    width) is what it cuts from the raster's centre, for models published with a resize larger than their
    input. `dims` are the widths of its embeddings and patch tokens; a signal that it lacks has no entry. JSON
    has them as `image_dim`, `text_dim` and `patch_dim`. `logit_scale` (exponentiated) and `logit_bias` stand
    before its cosines. `context_length` counts tokens, special ones included. `options` are the adapter's
    choices that change the numbers. `library` is for the record. `parameters` counts weights of all towers.
    """

    id: str
    kind: str
    source: str
    revision: str | None = None
    library: str
    weights_sha256: str
    tokenizer_sha256: str | None = None
    licence: LicenceTerms
    input: InputSpec | None = None
    centre_crop: tuple[int, int] | None = None
    dims: Mapping[Signal, int] = Field(default_factory=dict)
    context_length: int | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    signals: frozenset[Signal]
    modalities: tuple[str, ...] | None = None
    pretraining_data: tuple[str, ...] = ()
    options: Mapping[str, str] = Field(default_factory=dict)
    parameters: int = Field(ge=0)

    @model_validator(mode="before")
    @classmethod
    def _dims_from_written(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "dims" in content:
            return content
        dims = {signal: content.get(key) for signal, key in _WRITTEN_DIMS.items()}
        rest = {key: value for key, value in content.items() if key not in _WRITTEN_DIMS.values()}
        return {**rest, "dims": {signal: dim for signal, dim in dims.items() if dim is not None}}

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for key, value in handler(self).items():
            if key == "dims":
                written |= dict.fromkeys(_WRITTEN_DIMS.values())
                written |= {_WRITTEN_DIMS[signal]: dim for signal, dim in self.dims.items()}
            else:
                written[key] = value
        return written

    @field_serializer("signals")
    def _signals_in_one_order(self, signals: frozenset[Signal]) -> list[Signal]:
        """Sets have another order in every process; manifests of equal stores have equal bytes."""
        return sorted(signals)

    @property
    def is_derived(self) -> bool:
        """Whether it was made from what other teachers of its store gave."""
        return self.kind == DERIVED

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the numbers: weights, preprocessing, tokenizer, adapter options.

        Excludes the id, the licence, modalities and other words about the teacher. Two cards with equal
        fingerprints give equal outputs up to the arithmetic of device and library.
        """
        text = json.dumps(self._identity(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def difference(self, other: "TeacherCard") -> list[str]:
        """What makes the fingerprints differ, one line a key: `key: mine → theirs`. Empty when equal."""
        return [
            f"{each.place}: {_short(each.old)} → {_short(each.new)}"
            for each in tree_differences(self._identity(), other._identity())
        ]

    def _identity(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include=set(_IDENTITY))


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str) or value is ABSENT else json.dumps(value, sort_keys=True)
    return text[:12] + "…" if isinstance(value, str) and len(text) == 64 else text
