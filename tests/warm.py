"""Imported by the process that others are forked from (`forked`): what would cost each of them seconds."""

import atexit
import gc

gc.disable()

import torch.utils.tensorboard  # noqa: E402

import meddistill.recipes.pipeline  # noqa: E402, F401
from meddistill.students.tokenizers import ClipTokenizer  # noqa: E402

torch.set_num_threads(1)
ClipTokenizer(77)
gc.freeze()
atexit.register(gc.unfreeze)  # or libraries complain at the end
gc.enable()
