"""How an exception becomes an exit code and one message."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Final

from meddistill.errors import MedDistillError, MissingExtra, UserError

DONE, OURS, USERS, INTERRUPTED, UNREAD = 0, 1, 2, 130, 141
# What `meddistill[train]` adds, by the names that are imported; running a bundle needs none of them.
TRAINING_LIBRARIES: Final = frozenset(
    {
        "torch", "torchvision", "open_clip", "timm", "transformers", "accelerate", "safetensors", "pyarrow",
        "datasets", "sklearn", "scipy", "torchjd", "jaxtyping", "onnx", "onnxscript", "tensorboard", "jinja2",
        "markupsafe", "huggingface_hub", "threadpoolctl",
    }
)  # fmt: skip
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
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in TRAINING_LIBRARIES:
            _say(f"Error: {MissingExtra(library, 'train')}")
            return USERS
        traceback.print_exc()
        _say(_OURS)
        return OURS
    except Exception:
        traceback.print_exc()
        _say(_OURS)
        return OURS
    return DONE


def _say(message: str) -> None:
    sys.stderr.write(message.rstrip() + "\n")
