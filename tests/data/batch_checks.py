"""Batches held against each other and against rasters made by hand."""

import dataclasses

import numpy as np
import torch

from meddistill.data.dataset import SampleDataset
from meddistill.imaging import Geometry, ViewPolicy, decode, rasterize, view
from meddistill.records import Batch

STUDENT = Geometry(16, 16, "squash", "bilinear")
WIDE = Geometry(12, 20, "pad", "bicubic")
TALL = Geometry(24, 24, "crop", "bicubic")


def by_hand(dataset: SampleDataset, row: int, index: int, geometry: Geometry) -> np.ndarray:
    """The raster of one sample, from the file."""
    picture = decode(dataset.samples.refs[row], dataset.samples.options)
    policy = dataset.views.policy or ViewPolicy()
    return rasterize(view(picture, image_id=dataset.keys[row], index=index, policy=policy), geometry)


def assert_same(one: Batch, other: Batch) -> None:
    """Every field of both is equal."""
    for field in dataclasses.fields(Batch):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name == "teacher_rasters":
            assert list(mine) == list(theirs)
            assert all(torch.equal(mine[shape], theirs[shape]) for shape in mine)
        elif isinstance(mine, torch.Tensor):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs), field.name
        else:
            assert mine == theirs, field.name


def joined(parts: list[Batch]) -> Batch:
    """Shares of one batch, put together."""
    fields: dict[str, object] = {}
    for field in dataclasses.fields(Batch):
        values = [getattr(part, field.name) for part in parts]
        if field.name == "teacher_rasters":
            fields[field.name] = {shape: torch.cat([each[shape] for each in values]) for shape in values[0]}
        elif values[0] is None:
            fields[field.name] = None
        elif isinstance(values[0], torch.Tensor):
            fields[field.name] = torch.cat(values)
        else:
            fields[field.name] = tuple(item for each in values for item in each)
    return Batch(**fields)
