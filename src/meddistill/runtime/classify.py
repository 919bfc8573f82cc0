"""Zero-shot classification: images against class vectors of an ensemble of prompts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Floats32, unit_length
from meddistill.bundle_format import Prompts
from meddistill.errors import BundleError, ConfigError
from meddistill.imaging import ImageFile, ImageRef, normalize_text
from meddistill.runtime.bundle import Bundle
from meddistill.runtime.embed import Embedded, Embedder
from meddistill.runtime.pipeline import OnMistake

PLACE = "{}"
DEFAULT_TEMPLATES = ("{}", "a medical image of {}", "this medical image shows {}")


@dataclass(frozen=True)
class Classification:
    """The scores of one image: a probability for each label, summing to 1, in the order of the labels.

    Those of a flat picture (at most 3 greys of 16 or more values in the file) say little.
    """

    ref: ImageRef
    scores: Mapping[str, float]
    is_flat: bool = False

    @property
    def path(self) -> ImageFile:
        """The image's file."""
        return self.ref.path

    @property
    def best(self) -> str:
        """The label with the highest score, the first one of equals."""
        return max(self.scores, key=lambda label: self.scores[label])


def class_vectors(
    embedder: Embedder, labels: Sequence[str], *, templates: Sequence[str] = DEFAULT_TEMPLATES
) -> Floats32:
    """Class vectors `[labels, d]`: `normalise(mean over templates t of embed(t.format(label)))`.

    Each embedding has unit length before the mean (CLIP's prompt ensemble, Radford et al. 2021, 3.1.4).
    Vectors that the bundle holds for the same labels and templates are taken instead of being computed, but
    for int8: they come from the float tower, with which the int8 image tower was not compared.
    """
    _check(labels, templates)
    if embedder.precision == "float32":
        stored = embedder.bundle.class_vectors(labels, templates)
        if stored is not None:
            return stored
    texts = [template.replace(PLACE, label) for label in labels for template in templates]
    vectors = unit_length(embedder.embed_texts(texts)).reshape(len(labels), len(templates), -1)
    return unit_length(vectors.mean(axis=1))


def classify(
    bundle: Bundle,
    refs: Sequence[ImageRef],
    labels: Sequence[str],
    *,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    batch_size: int = 32,
    embedder: Embedder | None = None,
    on_mistake: OnMistake | None = None,
) -> list[Classification]:
    """Scores of each image: softmax over the labels of `logit_scale * cosine(image, class vector)`.

    They say how well the labels fit relative to one another: some label always fits best, even where none
    fits, and they are not calibrated. An image that cannot be read raises its ImageError, or is told to
    `on_mistake(row, error)` and left out. Pass `embedder` to keep its models loaded between calls.

    Raises ConfigError for fewer than two labels, labels that are equal or empty, and templates that have
    not exactly one `{}`.
    """
    embedder = embedder or Embedder(bundle)
    classes = dict(zip(labels, class_vectors(embedder, labels, templates=templates), strict=True))
    batches = embedder.stream_images(refs, batch_size=batch_size, on_mistake=on_mistake)
    return _scored(batches, refs, classes, scale=bundle.manifest.logit_scale)


def classify_by_task(
    bundle: Bundle,
    refs: Sequence[ImageRef],
    task: str,
    *,
    batch_size: int = 32,
    embedder: Embedder | None = None,
    on_mistake: OnMistake | None = None,
) -> list[Classification]:
    """As `classify`, over the labels and prompts of a task of `Bundle.prompts`.

    With int8, class vectors are computed from the task's prompts. Raises KeyError for a task that the bundle
    does not hold, BundleError for one that was exported without its prompts, which int8 needs.
    """
    embedder = embedder or Embedder(bundle)
    prompts = bundle.prompts()[task]
    vectors = bundle.task_vectors(task) if embedder.precision == "float32" else _computed(embedder, prompts)
    classes = dict(zip(prompts.labels, vectors, strict=True))
    batches = embedder.stream_images(refs, batch_size=batch_size, on_mistake=on_mistake)
    return _scored(batches, refs, classes, scale=bundle.manifest.logit_scale)


def _computed(embedder: Embedder, prompts: Prompts) -> Floats32:
    if len(prompts.prompts) != len(prompts.labels):
        msg = (
            f"`{prompts.name}` must hold its prompts for int8 towers; it was exported without. Take float32."
        )
        raise BundleError(msg)
    means = [unit_length(embedder.embed_texts(texts)).mean(axis=0) for texts in prompts.prompts]
    return unit_length(np.stack(means))


def _scored(
    batches: Iterable[Embedded], refs: Sequence[ImageRef], classes: Mapping[str, Floats32], *, scale: float
) -> list[Classification]:
    """Scores of each image by the class vectors `[d]` of the labels."""
    matrix = np.stack(list(classes.values()))
    results: list[Classification] = []
    for batch in batches:
        logits = scale * (unit_length(batch.vectors) @ matrix.T).astype(np.float64)
        for row, scores in zip(batch.rows, _softmax(logits), strict=True):
            named = dict(zip(classes, map(float, scores), strict=True))
            results.append(Classification(refs[row], named, is_flat=row in batch.flat))
    return results


def _check(labels: Sequence[str], templates: Sequence[str]) -> None:
    mistakes = []
    normalized = [normalize_text(label) for label in labels]
    if len(labels) < 2:
        mistakes.append(f"`labels` must name at least two classes; got {len(labels)}.")
    if not all(normalized):
        mistakes.append("`labels` must not be empty texts.")
    if len(set(normalized)) < len(normalized):
        mistakes.append("`labels` must differ in more than case and white space.")
    if not templates:
        mistakes.append("`templates` must hold at least one text.")
    wrong = [template for template in templates if template.count(PLACE) != 1]
    mistakes += [f"a template must hold {PLACE} exactly once; got {template!r}." for template in wrong]
    if mistakes:
        raise ConfigError(subject="classification", mistakes=mistakes)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
