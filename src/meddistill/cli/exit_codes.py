"""How an exception becomes an exit code and one message."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from meddistill.errors import MedDistillError, MissingExtra, UserError
from meddistill.file_kinds import unreadable
from meddistill.files import describe_os_error, is_disk_full

DONE, OURS, USERS, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
# What `meddistill[train]` adds, by the names that are imported; running a bundle needs none of them.
TRAINING_LIBRARIES: Final = frozenset(
    {
        "torch", "torchvision", "open_clip", "timm", "transformers", "accelerate", "safetensors", "pyarrow",
        "datasets", "sklearn", "scipy", "torchjd", "jaxtyping", "onnx", "onnxscript", "tensorboard", "jinja2",
        "markupsafe", "huggingface_hub", "threadpoolctl", "monai", "h5py",
    }
)  # fmt: skip
# Refusals that no program can foresee: rights, disks and shares that fail, limits of the system.
_OF_THE_SYSTEM: Final = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ESTALE, errno.ENOLCK, errno.EMFILE, errno.ENFILE),
)
_OURS: Final = "This is a mistake in MedDistill, not yours. Please report it with the lines above."


def guarded(call: Callable[[], None], *, usage_error: type[Exception]) -> int:
    """Run `call`; translate what it raises into an exit code, with one clear message on stderr."""
    try:
        call()
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say("Interrupted. The same command goes on where this one stopped.")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output, `head` for instance, has gone. Nothing more can be written, nor flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except UserError as error:
        _say(f"Error: {error}")
        return USERS
    except usage_error as error:
        _say(f"Error: {error}\nSee: meddistill --help")
        return USERS
    except MedDistillError as error:
        _say(f"Stopped: {error}")
        return OURS
    except Exception as error:
        mended = _mended_by_user(error)
        if mended is not None:
            _say(f"Error: {mended}")
            return USERS
        traceback.print_exc()
        _say(_OURS)
        return OURS
    return DONE


def _mended_by_user(error: Exception) -> str | None:
    """What to say of an error that is not ours, though it is not of our classes either."""
    if isinstance(error, ModuleNotFoundError):
        library = (error.name or "").partition(".")[0]
        return str(MissingExtra(library, "train")) if library in TRAINING_LIBRARIES else None
    if not isinstance(error, OSError):
        return None
    if is_disk_full(error):
        return describe_os_error(Path(error.filename or "."), error)
    if error.errno in _OF_THE_SYSTEM:
        return f"`{error.filename or 'a file'}` must be accessible; got {unreadable(error)}"
    return None


def _say(message: str) -> None:
    sys.stderr.write(message.rstrip() + "\n")
