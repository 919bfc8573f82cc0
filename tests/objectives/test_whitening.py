"""Whitened leading components, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

from meddistill.errors import ConfigError
from meddistill.methods.embedding import agreement
from meddistill.objectives.base import RowContext, TowerStatistics
from meddistill.objectives.cosine_smooth_l1 import CosineSmoothL1
from meddistill.records import StudentOutputs, TeacherOutputs

DIM = 5


def test_whitened_features_are_those_of_scikit_learns_components() -> None:
    numbers = torch.Generator().manual_seed(0)
    mixing = torch.eye(DIM).double() + torch.arange(DIM * DIM).reshape(DIM, DIM).double().sin()
    rows = torch.randn(60, DIM, generator=numbers).double() @ mixing
    ours = torch.randn(60, DIM, generator=numbers).double()
    moments = TowerStatistics(mean=rows.mean(0), covariance=rows.T.cov(correction=0))
    objective = CosineSmoothL1(features="whitened", statistics={"image": moments}, components=3).double()
    student = StudentOutputs(image=ours, text=ours, logit_scale=torch.tensor(1.0))
    available = torch.ones(60).bool()
    teacher = TeacherOutputs.of_rows(available, image=rows)
    found = objective(student, teacher, RowContext(mask=available, positives=torch.eye(60).bool()))

    oracle = PCA(3, whiten=True).fit(rows.numpy())
    target = torch.from_numpy(oracle.transform(rows.numpy())) * (60 / 59) ** 0.5
    mapped = ours @ torch.from_numpy(oracle.components_.T)
    distance = 1 - functional.cosine_similarity(mapped, target)
    error = functional.smooth_l1_loss(mapped, target, reduction="none").mean(1)
    torch.testing.assert_close(found.total, (distance + error) / 2, rtol=1e-4, atol=1e-5)


def test_whitening_keeps_no_direction_of_rounding() -> None:
    """A channel that never varies, as of a dead unit, would be noise of unit variance."""
    constant = torch.diag(torch.tensor([4.0, 1.0, 1e-12, 0.0, 0.0]))
    moments = TowerStatistics(mean=torch.zeros(DIM), covariance=constant)
    objective = CosineSmoothL1(features="whitened", statistics={"image": moments}, components=DIM)
    assert objective.get_buffer("image_basis").shape == (DIM, 2)


@pytest.mark.parametrize("features", ["normalized", "standardized", "whitened"])
def test_a_student_with_nothing_left_to_learn_agrees_wholly(features) -> None:
    """Far from the origin as a ReLU's outputs are, where raw cosines would say something else."""
    numbers = torch.Generator().manual_seed(1)
    rows = 5 + torch.randn(60, DIM, generator=numbers) * torch.tensor([9.0, 4.0, 1.0, 0.5, 0.1])
    moments = TowerStatistics(mean=rows.mean(0), covariance=rows.double().T.cov(correction=0))
    objective = CosineSmoothL1(features=features, statistics={"image": moments}, components=3)
    perfect = {
        "normalized": rows,
        "standardized": (rows - rows.mean(0)) / rows.std(0, correction=0),
        "whitened": torch.from_numpy(_whitened(rows)).float(),
    }[features]
    available = torch.ones(60).bool()
    teacher = TeacherOutputs.of_rows(available, image=rows)
    student = StudentOutputs(image=perfect, text=perfect, logit_scale=torch.tensor(1.0))
    context = RowContext(mask=available, positives=torch.eye(60).bool())
    torch.testing.assert_close(objective(student, teacher, context).total, torch.zeros(60), atol=1e-4, rtol=0)
    found = agreement(student, teacher, objective=objective)
    assert found.item() == pytest.approx(1, abs=1e-4)


def _whitened(rows: torch.Tensor) -> np.ndarray:
    """In the leading three components' channels, turned back into the teacher's."""
    oracle = PCA(3, whiten=True).fit(rows.numpy())
    return oracle.transform(rows.numpy()) * (60 / 59) ** 0.5 @ oracle.components_


@pytest.mark.parametrize("features", ["standardized", "whitened"])
def test_features_that_need_statistics_are_refused_without(features) -> None:
    with pytest.raises(ConfigError, match=f"`features: {features}` must come with the teacher's statistics"):
        CosineSmoothL1(features=features)
