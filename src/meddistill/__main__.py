"""The process of a command: `meddistill`, and `python -m meddistill`.

Libraries of training make some millions of objects when they are imported, which live as long as the process.
Looking through them for garbage every 700 objects, and taking them apart one by one at the end, is a third of
what a short command takes.
"""

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import Final

_NEW_OBJECTS: Final = 50_000  # before the collector looks for garbage again


def command() -> None:
    """Run the command line in a process of its own, which ends here."""
    codes: list[int] = []
    # What is registered first runs last, after all that libraries have to do at the end.
    atexit.register(_end_at_once, codes)
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
    from meddistill.cli import main

    codes.append(main())
    sys.exit(codes[0])


def _end_at_once(codes: list[int]) -> None:
    """End without taking the interpreter apart; files are closed by those who wrote them."""
    if not codes:  # an exception on its way out, which the interpreter tells
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(codes[0])


if __name__ == "__main__":
    command()
