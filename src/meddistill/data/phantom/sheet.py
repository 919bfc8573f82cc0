"""A contact sheet: what the phantom looks like, in one picture."""

import numpy as np
from PIL import Image

from meddistill.data.phantom.cohort import draw_sample
from meddistill.data.phantom.config import PhantomConfig

_GAP = 2


def contact_sheet(config: PhantomConfig, columns: int) -> Image.Image:
    """One row a modality, `columns` patients across, findings in turn from normal; on white.

    `config.samples` is not looked at: the sheet shows the first patients, however few there are.
    """
    kinds, cell = len(config.modalities), config.size + _GAP
    sheet = np.full((kinds * cell - _GAP, columns * cell - _GAP, 3), 255, dtype=np.uint8)
    for row in range(kinds):
        for column in range(columns):
            sample = (column * kinds + row) * config.images_per_patient
            _, drawing = draw_sample(config, sample)
            top, left = row * cell, column * cell
            sheet[top : top + config.size, left : left + config.size] = drawing.image
    return Image.fromarray(sheet)
