"""Where heads on embeddings are trained."""

import torch


def best_device() -> torch.device:
    """The accelerator, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
