"""A fusion network as the training loop sees it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import final

import torch
from torch import Tensor, nn

from meddistill.features.sources import TeacherSource
from meddistill.fusion.network import FusionNetwork
from meddistill.records import Batch, StudentOutputs, TeacherOutputs
from meddistill.students.dual_encoder import INITIAL_LOGIT_SCALE, MAX_LOGIT_SCALE


@final
class FusionTrainee(nn.Module):
    """Stands where a student stands; its inputs are what `source` gives for the rows of a batch."""

    def __init__(self, network: FusionNetwork, source: TeacherSource) -> None:
        super().__init__()
        self.network = network
        self.source = source
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))

    def forward(
        self,
        batch: Batch,
        *,
        shown: Mapping[str, Tensor] = MappingProxyType({}),  # noqa: ARG002
    ) -> StudentOutputs:
        """Fused embeddings of the batch; there are no further passes, since no image is looked at."""
        return self.of_outputs(self.source.outputs(batch))

    def of_outputs(self, outputs: Mapping[str, TeacherOutputs]) -> StudentOutputs:
        """Fused embeddings of what the teachers give for some rows."""
        return StudentOutputs(
            image=self.network.fused("image", outputs),
            text=self.network.fused("text", outputs),
            logit_scale=self.log_scale.exp(),
        )

    @torch.no_grad()
    def after_update(self) -> None:
        """Keep the logit scale within [1, 100], as CLIP does."""
        self.log_scale.clamp_(0.0, MAX_LOGIT_SCALE)
