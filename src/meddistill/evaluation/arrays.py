"""Arrays by what they hold: one name for one type."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
Places = NDArray[np.intp]
Flags = NDArray[np.bool_]
