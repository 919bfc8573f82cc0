"""What Pillow raises, in words: shown damage, a limit, a kind that it cannot read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from PIL import Image, UnidentifiedImageError

from meddistill.errors import ImageError
from meddistill.imaging.damage import PNG_START, TIFF_STARTS, damaged, picture_damage, tiff_directory
from meddistill.imaging.file_part import ImageFile
from meddistill.imaging.options import DecodeOptions
from meddistill.imaging.refusal import refusal, too_much_memory, unread

_KIND: Final = "PNG, JPEG, TIFF or BMP"
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_FORMATS: Final = {1: "unsigned", 2: "signed", 3: "float"}
_COLORS: Final = {0: ", white as zero", 3: ", palette", 5: ", CMYK", 6: ", YCbCr", 8: ", Lab"}


@contextmanager
def reading_picture(path: ImageFile, file: BinaryIO, options: DecodeOptions) -> Iterator[None]:
    """Turn whatever reading raises into ImageError; damage is named where the file or Pillow shows it."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise refusal(
            path,
            must=f"have at most {options.max_pixels:,} pixels",
            got="more than Pillow opens",
            do="Scale it down.",
        ) from None
    except MemoryError:
        raise too_much_memory(path) from None
    except Exception as error:  # Pillow's plug-ins raise anything from SyntaxError to struct.error
        if not getattr(error, "errno", None):
            _refuse(path, file, error)
        raise unread(path, "picture", error, words=str(error)) from None


def _refuse(path: ImageFile, file: BinaryIO, error: Exception) -> None:
    says_truncated = "truncated" in str(error).lower()  # the decoder's own word; it has no class for it
    shown = picture_damage(file)
    file.seek(0)
    head = file.read(8)
    # Of a TIFF the word shows no more than strips that take fewer bytes than Pillow expects of such samples,
    # of a PNG some chunk that is too short; where they lie and end was looked at.
    is_tiff = head.startswith(TIFF_STARTS)
    if shown is None and says_truncated and not is_tiff and head != PNG_START:
        shown = "one that ends early"
    if shown is not None:
        raise damaged(path, _KIND, shown=shown) from None
    samples = _tiff_samples(file) if is_tiff else None
    if samples is not None and says_truncated:
        samples += ", in fewer bytes than those take"
    if samples is not None or isinstance(error, UnidentifiedImageError):
        raise refusal(
            path,
            must="be a picture of a kind that Pillow reads",
            got=samples or "another",
            do="Save it as PNG, grey or RGB.",
        ) from None


def _tiff_samples(file: BinaryIO) -> str | None:
    """`3 samples of 8 bits, unsigned, YCbCr, compression 50001`, from the first directory of a TIFF."""
    try:
        directory = tiff_directory(file)
        file.seek(directory.next)
        directory.load(file)
        kind = _FORMATS.get(directory.get(_FORMAT, (1,))[0], "of another format")
        colors = _COLORS.get(directory.get(_PHOTOMETRIC, 1), "")
        compression = directory.get(_COMPRESSION, 1)
        packed = f", compression {compression}" if compression != 1 else ""
        samples = f"{directory.get(_SAMPLES, 1)} samples of {directory.get(_BITS, (1,))[0]} bits"
        return f"{samples}, {kind}{colors}{packed}"
    except Exception:  # a directory that cannot be read names no kind
        return None
