"""Kullback-Leibler divergence between the similarity distributions of a teacher and the student."""

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor

from meddistill.objectives.similarities import Similarities, SimilarityObjective


@final
class SimilarityKL(SimilarityObjective):
    """ℓ_i = ½·T² [KL(p_i ‖ q_i) over the batch's texts + KL(p'_i ‖ q'_i) over its images].

    p_i = softmax_j(S·Û_i·V̂_j/T) is the teacher's distribution over the batch's texts for image i, q_i =
    softmax_j(s·û_i·v̂_j/T) the student's; p', q' the same from text i to the images. S is the teacher's own
    logit scale (or `teacher_scale`), s the student's, T the `temperature`, as a rule 1. CRD of CLIP-KD (Yang
    et al. 2024); TinyCLIP's cross-entropy, which is this plus the teacher's entropy, is `affinity_mimicking`.
    The student's own embeddings enter: no head is needed, and the dims may differ.

    Equal captions. The target is the teacher's distribution, so there is no diagonal that could call an equal
    caption a negative, and `context.positives` is not used by default. A caption that stands m times has m
    equal columns in p and in q; within such a group both are uniform, so by the chain rule the divergence is
    exactly that of the distributions over distinct captions, each weighted by its number of copies: frequent
    captions count more, none counts wrongly. Equal images are equal columns for the teacher alone if the
    student sees other views of them; then the student is asked to score all views alike, which is meant.

    With `merge_positives` the columns P(i) with row i's image or caption are one event "+", p_i+ = Σ_{j in
    P(i)} p_ij and q_i+ = Σ_{j in P(i)} q_ij, and KL is of (p_i+, p_ij for j not in P(i)): how the teacher
    divides its certainty among an image's several captions is not asked of the student. Where positives are
    nothing but equal columns this changes nothing. KL only falls when events are merged.
    """

    name: ClassVar[str] = "similarity_kl"

    def cost(self, each: Similarities) -> Float[Tensor, "batch batch"]:
        """log p_ij − log q_ij."""
        return each.teacher - each.student
