"""A dual encoder, teachers and data small enough to train in milliseconds, with the faces of the real ones.

`MEDDISTILL_TEST_DEVICE=cuda` runs the tests that use them on a GPU.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.build import build_method
from meddistill.methods.config import ContrastiveConfig, EmbeddingConfig
from meddistill.objectives.base import TowerStatistics
from meddistill.records import Batch, StudentOutputs, TeacherOutputs
from meddistill.students.buffers import unchanged_buffers
from meddistill.training.config import TrainingConfig
from meddistill.training.gradients import GradientStep, StepSettings
from meddistill.training.loop import Stage
from meddistill.training.processes import Processes

DEVICE = torch.device(os.environ.get("MEDDISTILL_TEST_DEVICE", "cpu"))
ON_CPU = DEVICE.type == "cpu"
STUDENT_DIM = 12
TEACHER_DIMS = {"alpha": 10, "beta": 7, "gamma": 10}
ROWS = 48
TOY_SEED = 5
VOCABULARY = 30
CONTEXT = 5
SIDE = 4


class ToyStudent(nn.Module):
    """Two towers whose rows do not see one another; with `batch_norm`, they do."""

    def __init__(self, *, dropout: float = 0.0, batch_norm: bool = False, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pixels = SIDE * SIDE * 3
            self.image = nn.Sequential(
                nn.Linear(pixels, 16),
                nn.BatchNorm1d(16) if batch_norm else nn.LayerNorm(16),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(16, STUDENT_DIM),
            )
            self.words = nn.Embedding(VOCABULARY, 16)
            self.text = nn.Sequential(nn.LayerNorm(16), nn.Dropout(dropout), nn.Linear(16, STUDENT_DIM))
            self.log_scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, batch: Batch, *, shown: Mapping[str, Tensor] = MappingProxyType({})) -> StudentOutputs:
        tokens = batch.tokens.to(batch.rasters.device).long()
        image, text = self.embed_images(batch.rasters), self.text(self.words(tokens).mean(dim=1))
        passes = {}
        for name, keep in shown.items():
            with unchanged_buffers(self):
                passes[name] = self.embed_images(batch.rasters, keep=keep)
        return StudentOutputs(image=image, text=text, logit_scale=self.log_scale.exp(), passes=passes)

    def embed_images(self, rasters: Tensor, *, keep: Tensor | None = None) -> Tensor:
        pixels = rasters.to(self.log_scale.dtype) / 255 - 0.5
        return self.image((pixels if keep is None else pixels * keep[..., None]).flatten(1))

    @torch.no_grad()
    def after_update(self) -> None:
        self.log_scale.clamp_(0.0, 4.6052)


def toy_batch(rows: Iterable[int], *, data_seed: int = 0, gaps: bool = False) -> Batch:
    """Rows of a fixed table; a row's content depends on its number alone. Some captions and images repeat.

    With `gaps` every fifth row has no caption.
    """
    rows = list(rows)
    captioned = [not gaps or row % 5 != 3 for row in rows]
    rasters, tokens = [], []
    for row in rows:
        generator = torch.Generator().manual_seed(1000 * data_seed + _image_of(row))
        rasters.append(torch.randint(0, 256, (SIDE, SIDE, 3), generator=generator, dtype=torch.uint8))
        generator = torch.Generator().manual_seed(7000 + 1000 * data_seed + _text_of(row))
        tokens.append(torch.randint(0, VOCABULARY, (CONTEXT,), generator=generator, dtype=torch.int32))
    return Batch(
        samples=torch.tensor(rows),
        views=torch.zeros(len(rows), dtype=torch.int64),
        rasters=torch.stack(rasters),
        tokens=torch.stack(tokens),
        image_group=torch.tensor([_image_of(row) for row in rows]),
        text_group=torch.tensor(
            [_text_of(row) if there else -1 - row for row, there in zip(rows, captioned, strict=True)]
        ),
        texts=tuple(
            f"caption {_text_of(row)}" if there else "" for row, there in zip(rows, captioned, strict=True)
        ),
        modalities=("xray",) * len(rows),
    )


def _image_of(row: int) -> int:
    return row - 1 if row % 9 == 1 else row


def _text_of(row: int) -> int:
    return row - 2 if row % 7 == 2 else row


class ToyTeachers:
    """Outputs that depend on the row alone. Teacher k lacks every (k + 2)-th row, `absent` ones all rows.

    With `gaps` teacher k lacks the text of every (k + 3)-th row, and the image of every (k + 4)-th. Of a row
    without a caption there is no text.
    """

    def __init__(
        self, names: Iterable[str] = TEACHER_DIMS, *, absent: Iterable[str] = (), gaps: bool = False
    ) -> None:
        self.names = tuple(names)
        self.absent = tuple(absent)
        self.gaps = gaps

    def outputs(self, batch: Batch) -> dict[str, TeacherOutputs]:
        return {name: self._outputs(name, batch) for name in self.names}

    def _outputs(self, name: str, batch: Batch) -> TeacherOutputs:
        rows = batch.samples.tolist()
        number = list(TEACHER_DIMS).index(name)
        available = torch.tensor([name not in self.absent and row % (number + 2) != 1 for row in rows])
        there = torch.tensor([[row % (number + 4) != 2, row % (number + 3) != 2] for row in rows]).T
        with_image, with_text = available & (there | (not self.gaps))
        captioned = batch.captioned
        with_text = with_text.to(captioned.device, non_blocking=True) & captioned
        image = _features(TEACHER_DIMS[name], [50 * number + 3 * _image_of(row) for row in rows])
        text = _features(TEACHER_DIMS[name], [90 * number + 3 * _text_of(row) + 1 for row in rows])
        return TeacherOutputs(
            image=with_image[:, None] * image,
            text=with_text[:, None] * text.to(captioned.device, non_blocking=True),
            image_available=with_image,
            text_available=with_text,
            logit_scale=20.0 + number,
        )


def _features(dim: int, seeds: list[int]) -> Tensor:
    return torch.stack([torch.randn(dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


class ToyData:
    """An epoch is a permutation by (seed, epoch); a process takes its slice of each global batch."""

    def __init__(
        self, *, batch_size: int, processes: int = 1, process: int = 0, rows: int = ROWS, seed: int = 0
    ) -> None:
        self.ids = [f"sample-{row}" for row in range(rows)]
        self.fingerprint = f"toy {rows} {seed}"
        self.batch_size = batch_size
        self.steps = rows // batch_size
        self.share = batch_size // processes
        self.first = self.share * process
        self.seed = seed

    def batches(self, *, epoch: int, start: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(31 * self.seed + epoch)
        order = torch.randperm(len(self.ids), generator=generator).tolist()
        for number in range(start, len(order) // self.batch_size):
            rows = order[number * self.batch_size :][self.first : self.first + self.share]
            yield toy_batch(rows, data_seed=self.seed)


EMBEDDING = {
    "method": "embedding",
    "objectives": {
        "contrastive": 1.0,
        "feature_mse": 50.0,
        "interactive_contrastive": 1.0,
        "similarity_kl": 0.5,
        "cosine_smooth_l1": 0.7,
    },
    "selection": {"kind": "random_draw"},
}


# Those that need more of a step: layers of their own, masked images, the batch's own gradients.
EVERY_OBJECTIVE = {
    **EMBEDDING,
    "objectives": {
        **EMBEDDING["objectives"],
        "affinity_mimicking": 0.6,
        "gradient_distillation": 20.0,
        "masked_feature_distillation": {"weight": 30.0, "patch_size": 2, "ratio": 0.5},
        "augmented_feature_fusion": 0.8,
        "class_vector_kl": {"weight": 0.9, "negatives": "queue", "queue_size": 6},
    },
}


class ToyStageConfig(TrainingConfig, EmbeddingConfig):
    """The configuration of a distilling stage, as recipes compose it."""


def toy_config(**changes: object) -> ToyStageConfig:
    settings = {
        "epochs": 2,
        "batch_size": 12,
        "learning_rate": 3e-3,
        "warmup": 1,
        "log_every": 2,
        "checkpoint_every": 3,
        **EMBEDDING,
    }
    return ToyStageConfig.model_validate({**settings, **changes})


def toy_spaces(names: Iterable[str] = TEACHER_DIMS) -> dict[str, TeacherSpace]:
    dims = {name: TEACHER_DIMS[name] for name in names}
    return {
        name: TeacherSpace(
            dims={"image": dim, "text": dim},
            logit_scale=20.0,
            statistics={"image": each, "text": each},
            banks={"classes": _features(dim, list(range(2000, 2009)))},
        )
        for name, dim in dims.items()
        for each in [toy_statistics(dim)]
    }


def toy_statistics(dim: int) -> TowerStatistics:
    """Like those of a real teacher: no mean is 0, no two channels are alike."""
    channels = torch.arange(dim, dtype=torch.float32)
    spread = torch.diag(1.0 + 0.2 * channels.cos())
    mixed = spread + 0.1 * torch.outer(channels.sin(), channels.sin())
    return TowerStatistics(mean=0.3 + 0.1 * channels.sin(), covariance=mixed @ mixed.T)


def toy_method(
    config: EmbeddingConfig | ContrastiveConfig | None = None,
    *,
    names: Iterable[str] = TEACHER_DIMS,
    groups: int = 1,
) -> Method:
    chosen = config or EmbeddingConfig.model_validate(EMBEDDING)
    return build_method(
        chosen, student_dim=STUDENT_DIM, teachers=toy_spaces(names), seed=TOY_SEED, groups=groups
    )


def toy_stage(
    config: ToyStageConfig | None = None, *, processes: int = 1, process: int = 0, dropout: float = 0.0
) -> Stage:
    config = config or toy_config()
    return Stage(
        student=ToyStudent(dropout=dropout),
        method=toy_method(config),
        data=ToyData(batch_size=config.batch_size, processes=processes, process=process),
        source=ToyTeachers(),
        config=config,
    )


def toy_step(
    student: ToyStudent,
    method: Method,
    *,
    processes: Processes | None = None,
    source: ToyTeachers | None = None,
    micro_batch: int | None = None,
    precision: str = "float32",
) -> GradientStep:
    processes = processes or Processes(cpu=ON_CPU)
    return GradientStep(
        student=student.to(processes.device),
        method=method.to(processes.device),
        source=source or ToyTeachers(),
        processes=processes,
        settings=StepSettings(micro_batch=micro_batch, precision=precision, seed=9),
    )


def gradients_of(*modules: nn.Module) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": parameter.grad.detach().cpu().clone()
        for number, module in enumerate(modules)
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
