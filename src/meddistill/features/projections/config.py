"""What a recipe may say of the spaces in which student and teachers are compared. Loads no torch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from meddistill.strict import Strict


class LearnedHeadConfig(Strict):
    """Each teacher's own space; a linear head per teacher, trained with the student, leads there."""

    kind: Literal["learned_head"] = "learned_head"
    """A learned head from the student's space to each teacher's."""


class LinearAutoencoderConfig(Strict):
    """One linear map per teacher to the student's dim, the first layer of an autoencoder (MMKD-CLIP)."""

    kind: Literal["linear_autoencoder"]
    """A linear map per teacher, trained before the stage to keep what its features hold."""
    dim: PositiveInt | None = None
    """Channels after the map. By default the student's, which then needs no head; with another number a
    learned head leads there. MMKD-CLIP has 512 for a student of 512.
    """
    hidden_dim: PositiveInt = 1024
    """Width of the hidden layer that all teachers share; the paper does not give it."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of the hidden layer, while the map is fitted."""
    noise: NonNegativeFloat = 0.01
    """Standard deviation of what is added to each channel of the features, which have unit length."""
    steps: PositiveInt = 2000
    """Updates; the paper does not give them."""
    batch_size: PositiveInt = 256
    """Pairs of image and caption of each teacher in an update; the paper does not give it."""
    learning_rate: PositiveFloat = 1e-3
    """Adam's, decaying to 0 along a cosine; the paper does not give it."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of initial weights, order of rows, noise and dropout."""


class PCAConfig(Strict):
    """One linear map per teacher to the student's dim: its leading principal components."""

    kind: Literal["pca"]
    """Principal components of the images and texts, taken together, that the teacher is used for."""
    dim: PositiveInt | None = None
    """Components. By default as many as the student has channels, which then needs no head; with another
    number a learned head leads there. A teacher of fewer channels gets zeros for the rest.
    """


class JointPCAConfig(Strict):
    """The ensemble of a row's teachers as one teacher, in the principal components of all side by side."""

    kind: Literal["joint_pca"]
    """One linear map per teacher into a space of all; there the sum of a row's teachers is what their
    ensemble says, and the student's only target.
    """
    dim: PositiveInt | None = None
    """Components. By default as many as the student has channels, which then needs no head; with another
    number a learned head leads there.
    """
    rows: PositiveInt = 50_000
    """The most pairs of image and caption that are looked at; of more than these, as many are drawn."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of that draw."""


class PhiSConfig(Strict):
    """Each teacher's own space, centred, rotated and scaled so that every channel has variance 1 (PHI-S).

    Objectives that compare directions (`feature_mse`, `interactive_contrastive`, `gradient_distillation`)
    feel the centring alone; `cosine_smooth_l1` looks at channels too.
    """

    kind: Literal["phi_s"]
    """Standardised by exact statistics of the images and texts, taken together, that the teacher is used
    for; a learned head leads there.
    """


SharedDimConfig = LinearAutoencoderConfig | PCAConfig | JointPCAConfig
FittedConfig = SharedDimConfig | PhiSConfig
ProjectionConfig = Annotated[LearnedHeadConfig | FittedConfig, Field(discriminator="kind")]
