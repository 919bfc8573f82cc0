"""`python -m meddistill` is `meddistill`."""

import sys

from meddistill.cli import main

if __name__ == "__main__":
    sys.exit(main())
