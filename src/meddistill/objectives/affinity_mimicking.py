"""Cross-entropy between the similarity distributions of a teacher and the student."""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.similarities import Similarities, SimilarityObjective


@final
class AffinityMimicking(SimilarityObjective):
    """ℓ_i = ½·T² [CE(p_i, q_i) over the batch's texts + CE(p'_i, q'_i) over its images].

    CE(p, q) = −Σ_j p_j log q_j. p_i = softmax_j(S·Û_i·V̂_j/T) is the teacher's distribution over the batch's
    texts for image i, q_i = softmax_j(s·û_i·v̂_j/T) the student's; p', q' the same from text i to the images.
    S is the teacher's own logit scale, or `teacher_scale` (50 in TinyCLIP's scripts), s the student's, T the
    `temperature`, as a rule 1. Affinity mimicking of TinyCLIP (Wu et al. 2023). The student's own embeddings
    enter: no head is needed, and the dims may differ.

    CE(p, q) = KL(p ‖ q) + H(p), and the teacher's entropy H(p) does not depend on the student: this is
    `similarity_kl` plus a constant, with the same gradients. They differ where the *value* of a loss counts:
    in logs, and in weightings that look at losses. Here a teacher that is sure of its similarities has the
    smaller loss; there every teacher that is perfectly imitated has loss 0.

    As in `similarity_kl`, `context.positives` is not used by default: nothing here calls an equal caption a
    negative. `merge_positives` is as there.
    """

    name: ClassVar[str] = "affinity_mimicking"

    def cost(self, each: Similarities) -> Float[Tensor, "batch batch"]:
        """−log q_ij."""
        return -each.student
