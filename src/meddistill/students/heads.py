"""Heads that exist only during training."""

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class TeacherHead(nn.Module):
    """Maps the student's space into one teacher's: one linear map for images and texts alike.

    y = W x + b with W of shape (teacher_dim, student_dim). Because both towers share W, the student's
    image and text embeddings stay in one space: a map of its own for each tower could satisfy a teacher
    without aligning them. Dropped after training; the student keeps its own dimension.

    Source: MMKD-CLIP's per-teacher linear projection, shared by image and text; there it is trained as the
    first layer of an autoencoder on the teachers' side, here it is on the student's side and trained with
    the student, so that nothing of a teacher remains in the deployed model.
    """

    def __init__(self, student_dim: int, teacher_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(student_dim, teacher_dim)

    def forward(self, embeddings: Float[Tensor, "batch student_dim"]) -> Float[Tensor, "batch teacher_dim"]:
        """Embeddings of the student as the teacher would give them; not normalised."""
        projected: Tensor = self.linear(embeddings)
        return projected
