"""`meddistill embed BUNDLE IMAGE…`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from meddistill.cli.bundles import (
    DEFAULT_EMBED_OPTIONS,
    DEFAULT_SELECTORS,
    BundleFolder,
    EmbedOptions,
    Selectors,
    refuse_nothing_read,
    warn_of_flat,
)
from meddistill.errors import ConfigError

if TYPE_CHECKING:
    from meddistill.arrays import Floats32


def embed(
    bundle: BundleFolder,
    images: Annotated[
        list[Path] | None, Parameter(help="PNG, JPEG, TIFF, BMP, DICOM or NIfTI files.")
    ] = None,
    /,
    *,
    texts: Annotated[
        list[str] | None, Parameter(negative="", help="Texts to embed; may be given several times.")
    ] = None,
    output: Annotated[
        Path | None, Parameter(help="A .npy file for the vectors; their names go beside it as .json.")
    ] = None,
    options: EmbedOptions = DEFAULT_EMBED_OPTIONS,
    selectors: Selectors = DEFAULT_SELECTORS,
) -> None:
    """Turn images and texts into unit vectors of one space.

    Without --output one JSON object a line goes to stdout: {"image" or "text": name, "vector": [...]}.
    """
    import numpy as np

    from meddistill.runtime import Bundle, Embedder

    images, texts = images or [], texts or []
    if not images and not texts:
        raise ConfigError(subject="embed", mistakes=["name at least one image or one --texts."])
    if output is not None and output.suffix != ".npy":
        raise ConfigError(subject="embed", mistakes=[f"`--output` must end in .npy; got {output.name}."])
    embedder = Embedder(Bundle.open(bundle), precision=options.precision)
    rows: list[int] = []
    flat: list[int] = []
    parts: list[Floats32] = []
    stream = embedder.stream_images(selectors.references(images), on_mistake=options.on_mistake)
    for batch in stream:
        rows.extend(batch.rows)
        parts.append(batch.vectors)
        flat.extend(batch.flat)
    refuse_nothing_read(len(images), len(rows))
    warn_of_flat([str(images[row]) for row in flat])
    names = [("image", str(images[row])) for row in rows] + [("text", text) for text in texts]
    vectors = np.concatenate([*parts, embedder.embed_texts(texts)])
    if output is None:
        _write_lines(names, vectors)
        return
    listing = output.with_suffix(".json")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        np.save(output, vectors)
        content = json.dumps([{kind: name} for kind, name in names], indent=1, ensure_ascii=False)
        listing.write_bytes(content.encode("utf-8", "backslashreplace"))
    except OSError as error:
        mistake = f"`--output` must be a file that can be written; got {output}: {error.strerror or error}."
        raise ConfigError(subject="embed", mistakes=[mistake]) from None
    sys.stdout.write(f"{output}: {vectors.shape[0]} vectors of {vectors.shape[1]}; names in {listing}\n")


def _write_lines(names: list[tuple[str, str]], vectors: "Floats32") -> None:
    for (kind, name), vector in zip(names, vectors, strict=True):
        line = {kind: name, "vector": [round(float(value), 7) for value in vector]}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
