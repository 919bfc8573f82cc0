"""Any file to one `(H, W, 3)` uint8 picture, and the key that names that picture."""

import hashlib
import json

from meddistill.imaging.intensity import Bytes
from meddistill.imaging.options import DEFAULT_OPTIONS, RULES_VERSION, DecodeOptions, ImageRef
from meddistill.imaging.picture import Picture
from meddistill.imaging.refusal import not_readable, refusal
from meddistill.imaging.sniff import Kind, sniff

_SELECTORS: dict[Kind, frozenset[str]] = {
    "picture": frozenset(),
    "tiff": frozenset({"frame"}),
    "dicom": frozenset({"frame"}),
    "nifti": frozenset({"frame", "axis", "slice"}),
    "nifti_gz": frozenset({"frame", "axis", "slice"}),
}
_NAMES: dict[Kind, str] = {
    "picture": "a PNG, JPEG or BMP",
    "tiff": "a TIFF",
    "dicom": "a DICOM file",
    "nifti": "a NIfTI file",
    "nifti_gz": "a NIfTI file",
}


def decode(ref: ImageRef, options: DecodeOptions = DEFAULT_OPTIONS) -> Bytes:
    """The picture that `ref` names, `(H, W, 3)` uint8; see `decode_beside`."""
    return decode_beside(ref, options).pixels


def decode_beside(ref: ImageRef, options: DecodeOptions = DEFAULT_OPTIONS) -> Picture:
    """The picture that `ref` names, grey repeated in three channels, beside the values that the file stores.

    The kind is found from the content, whatever the file is called. The rules of each kind stand at
    `decode_picture`, `decode_dicom` and `decode_nifti`, those of intensities at `DecodeOptions`. Equal bytes,
    selectors and options give equal pixels. Safe to call from several threads.

    Raises ImageError, and nothing else, for whatever is no image, damaged, of a kind that nobody here reads,
    too large, or lacks what the selectors ask for. Messages hold the path, sizes and names of kinds, and no
    header value.
    """
    kind = sniff(ref.path)
    _refuse_selectors(ref, kind)
    if kind == "dicom":
        from meddistill.imaging.dicom import decode_dicom  # pydicom costs 0.4 s

        return decode_dicom(ref.path, ref.frame, options)
    if kind in {"nifti", "nifti_gz"}:
        from meddistill.imaging.nifti import decode_nifti  # nibabel costs 0.3 s

        return decode_nifti(ref, options, compressed=kind == "nifti_gz")
    from meddistill.imaging.pictures import decode_picture

    return decode_picture(ref.path, ref.frame, options)


def image_key(ref: ImageRef, options: DecodeOptions = DEFAULT_OPTIONS) -> str:
    """The name of a picture: sha256 hex of the file's bytes, the selectors, and the options that move pixels.

    Raises ImageError for a file that cannot be read; the image itself is not decoded.
    """
    try:
        with ref.path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise not_readable(ref.path, error) from None
    selectors = [ref.frame, ref.axis, ref.slice]
    parts = json.dumps([RULES_VERSION, content, selectors, options.pixels_depend_on()], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()


def _refuse_selectors(ref: ImageRef, kind: Kind) -> None:
    given = {name for name in ("frame", "axis", "slice") if getattr(ref, name) is not None}
    for name in sorted(given - _SELECTORS[kind]):
        raise refusal(
            ref.path,
            must=f"be a kind of file that has a `{name}`",
            got=_NAMES[kind],
            do=f"Leave `{name}` empty for this image.",
        )
