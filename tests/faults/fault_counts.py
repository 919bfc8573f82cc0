"""How often each fault is tried, and from which seed; `make faults` tries more often."""

import os

REPEATS = int(os.environ["MEDDISTILL_FAULT_REPEATS"])
SEED = int(os.environ["MEDDISTILL_FAULT_SEED"])
