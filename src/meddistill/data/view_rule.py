"""Which view of an image the student sees in an epoch, and which one its teachers see."""

from dataclasses import dataclass
from typing import Literal

from meddistill.data.draws import draw
from meddistill.imaging import ViewPolicy


@dataclass(frozen=True, kw_only=True)
class ViewRule:
    """The student's view by epoch, the teachers' by the student's.

    `policy` makes the views; None shows everyone the whole image, which is view 0. `views: "fresh"` shows the
    student one of 2^62 views, drawn by seed and epoch, so that it meets none twice. A number n shows one of
    the views 0 to n - 1, drawn by seed, epoch and image, which are the ones that a feature store of n views
    holds; n = 1 is the whole image.

    `teacher: "fixed"` shows the teachers view 0 whatever the student sees (MMKD-CLIP), `"consistent"` shows
    them the student's view, which a store can only answer for a number of views that it holds.
    """

    policy: ViewPolicy | None = None
    views: Literal["fresh"] | int = "fresh"
    teacher: Literal["fixed", "consistent"] = "fixed"

    def __post_init__(self) -> None:
        if self.views != "fresh" and self.views < 1:
            msg = f"`views` must be 'fresh' or at least 1; got {self.views}."
            raise ValueError(msg)

    @property
    def whole_images_only(self) -> bool:
        """Whether nobody ever sees anything but view 0."""
        return self.policy is None or self.views == 1

    def student_view(self, *, seed: int, epoch: int, image_key: str) -> int:
        """The index of the view that the student sees of this image in this epoch, counted from 0."""
        if self.whole_images_only:
            return 0
        if self.views == "fresh":
            return 1 + (draw("fresh", seed, epoch) >> 2)
        return draw("view", seed, epoch, image_key) % self.views

    def teacher_view(self, student_view: int) -> int:
        """The index of the view that the teachers see when the student sees `student_view`."""
        return student_view if self.teacher == "consistent" else 0
