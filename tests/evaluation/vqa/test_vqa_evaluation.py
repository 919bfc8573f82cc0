"""Question answering from tables to results: several models, a tuned student, real questions."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from vqa_world import CLOSED_SET, ZERO_SHOT, TokenModel, suite, write_questions

from meddistill.data.samples import Samples
from meddistill.errors import TeacherError
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.base.results import TEACHER_MEAN, Results
from meddistill.evaluation.engine.evaluate import evaluate
from meddistill.evaluation.engine.registry import build_task
from meddistill.evaluation.engine.suite_config import SuiteConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import TunableEmbedder
from meddistill.evaluation.models.torch_models import ModelEmbedder
from meddistill.imaging import ImageRef
from meddistill.progress import SilentProgress
from meddistill.teachers.frozen import FrozenTeacher
from meddistill.teachers.load import load_teacher
from tiny_teachers import SAVERS, save_open_clip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"), patients=24)


def _evaluate(models: list[Any], config: SuiteConfig, base: Path, folder: Path) -> Results:
    return evaluate(models, config, base=base, folder=folder, progress=SilentProgress())


@pytest.fixture(scope="module")
def evaluated(asked: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    folder = tmp_path_factory.mktemp("evaluation")
    models = [
        TokenModel(),
        TokenModel("sharp", "teacher", seed=1),
        TokenModel("blurred", "teacher", seed=2, noise=0.8),
        TokenModel("blind to words", "teacher", seed=3, has_text=False),
    ]
    return _evaluate(models, suite({**CLOSED_SET, "epochs": 6}, ZERO_SHOT), asked, folder), folder


def test_every_model_has_its_accuracies(evaluated: tuple[Results, Path]) -> None:
    results, _ = evaluated
    for model in ("student", "sharp", "blurred", TEACHER_MEAN):
        for task in ("closed", "nearest"):
            row = results.main(model, task)
            assert row is not None
            assert row.metric == "accuracy"
            assert row.low <= row.value <= row.high
            metrics = {each.metric for each in results.of(model=model, task=task)}
            assert {"accuracy_open", "accuracy_closed", "macro_accuracy", "accuracy_answerable"} <= metrics
    assert "no text tower" in results.main("blind to words", "closed").note
    assert all(0.8 < task.facts["coverage"] < 1 for task in results.tasks)
    assert any("right answer among" in each for each in results.warnings)


def test_results_and_dumps_hold_no_words_of_samples(evaluated: tuple[Results, Path]) -> None:
    _, folder = evaluated
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for words in (b"secret answer", b"What is the colour", b"name-of-", b"Which picture"):
                assert words not in content, path


def test_results_are_read_again_and_nothing_is_done_twice(
    asked: Path, evaluated: tuple[Results, Path]
) -> None:
    results, folder = evaluated
    assert Results.load(folder) == results
    dumps = {path: path.stat().st_mtime_ns for path in (folder / "predictions").rglob("*.parquet")}
    models = [TokenModel(), TokenModel("sharp", "teacher", seed=1)]
    again = _evaluate(models, suite({**CLOSED_SET, "epochs": 6}, ZERO_SHOT), asked, folder)
    assert again.main("student", "closed") == results.main("student", "closed")
    changed = {path.parent.name for path, time in dumps.items() if path.stat().st_mtime_ns != time}
    assert changed <= {"closed", "nearest"}
    assert models[0].images_seen == 0


def _teacher(folder: Path, name: str) -> ModelEmbedder:
    folder.mkdir()
    return ModelEmbedder(load_teacher(name, SAVERS[name](folder), base=folder))


def _weights(teacher: FrozenTeacher) -> list[torch.Tensor]:
    return [each.clone() for module in teacher.modules for each in module.parameters()]


def test_towers_are_tuned_and_the_model_stays_as_it_was(asked: Path, tmp_path: Path) -> None:
    """As `m3ae` has it without a word about towers."""
    content = {**CLOSED_SET, "protocol": "m3ae", "epochs": 1, "seeds": 1, "tower_learning_rate": 1e-3}
    teacher = load_teacher("clip", save_open_clip(tmp_path), base=tmp_path)
    before = _weights(teacher)
    models = [ModelEmbedder(teacher), TokenModel("other", "teacher")]
    first = _evaluate(models, suite(content), asked, tmp_path / "a")
    assert all(map(torch.equal, before, _weights(teacher)))
    assert first.main("clip", "closed").value is not None
    assert first.main("other", "closed").note == "not applicable: the model has no towers that can be tuned"
    frozen = suite({**content, "towers": "frozen"})
    assert _evaluate(models[1:], frozen, asked, tmp_path / "b").main("other", "closed").value is not None


def test_tuning_is_the_same_again_and_moves_the_towers(asked: Path, tmp_path: Path) -> None:
    model = ModelEmbedder(load_teacher("clip", save_open_clip(tmp_path), base=tmp_path))
    content = {**CLOSED_SET, "towers": "tuned", "epochs": 1, "seeds": 1, "tower_learning_rate": 1e-2}
    still = {**content, "tower_learning_rate": 1e-12}
    scores = []
    for number, each in enumerate((content, content, still)):
        config = suite(each)
        parts = SuiteTables(config, base=asked).parts(config.tasks[0])
        task = build_task(config.tasks[0], parts, SampleNames(tmp_path, examples=False))
        folder = tmp_path / str(number)
        found = task.predict(Embeddings(model, folder=folder, progress=SilentProgress()))
        scores.append(found.probabilities(0))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2])


@pytest.mark.parametrize("name", ["open_clip", "open_clip_bert", "siglip", "clip"])
def test_tokens_of_the_copy_carry_gradients(asked: Path, tmp_path: Path, name: str) -> None:
    embedder = _teacher(tmp_path / "teacher", name)
    assert isinstance(embedder, TunableEmbedder)
    assert embedder.tunable
    towers = embedder.trainable()
    samples = Samples(refs=tuple(ImageRef(path=asked / f"p{number}_0.png") for number in range(3)))
    rasters = towers.rasters(samples)
    assert rasters.dtype == torch.uint8
    patches = towers.image_tokens(rasters)
    tokens, read = towers.text_tokens(["what organ is this?", "no"])
    assert len(patches) == 3
    assert tokens.shape[:2] == read.shape
    (patches.square().sum() + tokens[read].square().sum()).backward()
    moved = [each for each in towers.parameters() if each.grad is not None]
    assert len(moved) > 4
    assert not any(each.requires_grad for each in embedder._teacher.modules[0].parameters())


def test_what_is_no_module_cannot_be_tuned(tmp_path: Path) -> None:
    card = load_teacher("clip", save_open_clip(tmp_path), base=tmp_path).card
    embedder = ModelEmbedder(FrozenTeacher(object(), card=card))
    assert not embedder.tunable
    with pytest.raises(TeacherError, match="must be a torch model"):
        embedder.trainable()


class RandomClip:
    """A tiny open_clip model with random weights that gives embeddings alone."""

    name, role, logit_scale, pretraining_data = "random", "student", 100.0, ()
    fingerprint = "ab" * 32

    def __init__(self) -> None:
        vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
        text = {"context_length": 32, "width": 32, "heads": 2, "layers": 1}
        torch.manual_seed(0)
        self._model = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
        self._tokenizer = open_clip.SimpleTokenizer(context_length=32)
        self._transform = open_clip.image_transform(32, is_train=False)

    def embed_images(self, samples: Samples, *, advance: Any) -> np.ndarray:
        from PIL import Image

        found = []
        for ref in samples.refs:
            with Image.open(ref.path) as image:
                pixels = self._transform(image.convert("RGB"))[None]
            with torch.inference_mode():
                found.append(self._model.encode_image(pixels)[0].numpy())
            advance(1)
        return np.stack(found)

    def embed_texts(self, texts: Any) -> np.ndarray:
        with torch.inference_mode():
            return self._model.encode_text(self._tokenizer(list(texts))).numpy()


def test_real_questions(real_data: Path, tmp_path: Path) -> None:
    """The official questions of VQA-Med 2019, with a model that knows nothing."""
    split = {
        name: {"table": "vqa.csv", "patient": "patient_id", "where": {"split": name, "source": "official"}}
        for name in ("train", "val", "test")
    }
    common = {"answer_type": "answer_type", "question_type": "question_type", "test": "test"}
    tasks = [
        {
            **CLOSED_SET, **common, "name": "learnt", "epochs": 2, "seeds": 1,
        },
        {
            "name": "ranked", "kind": "vqa_zero_shot", "train": "train", **common,
            "same_question_type": True, "candidates": "by_type",
        },
    ]  # fmt: skip
    config = suite(*tasks, tables=split)
    results = _evaluate([RandomClip()], config, real_data, tmp_path)
    facts = {task.name: task.facts for task in results.tasks}
    assert facts["learnt"]["rows"] == {"train": 460, "test": 160, "validation": 64}
    assert 0.5 < facts["learnt"]["coverage"] < 1
    assert set(facts["learnt"]["question_types"]) == {"abn", "modality", "organ", "plane"}
    for task in ("learnt", "ranked"):
        row = results.main("random", task)
        assert 0 <= row.low <= row.value <= row.high <= facts[task]["coverage"] + 0.1
        assert row.patients > 20
    text = (tmp_path / "results.json").read_text()
    assert "genitourinary" not in text
    assert "contrast" not in text
