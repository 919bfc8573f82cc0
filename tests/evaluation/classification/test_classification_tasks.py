"""Zero-shot, kNN and linear probe: against open_clip and scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from colour_world import COLOURS, ColourModel, suite
from pydantic import TypeAdapter
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from meddistill.errors import ConfigError, TableError
from meddistill.evaluation.base.bootstrap import Resampler
from meddistill.evaluation.base.bootstrap_config import BootstrapConfig
from meddistill.evaluation.base.predictions import SampleNames
from meddistill.evaluation.engine.registry import TASKS, AnyTask, build_task
from meddistill.evaluation.engine.suite_config import AnyTaskConfig
from meddistill.evaluation.engine.suite_tables import SuiteTables
from meddistill.evaluation.models.cache import Embeddings
from meddistill.evaluation.models.protocols import normalized
from meddistill.evaluation.tasks.classification.knn import votes
from meddistill.evaluation.tasks.classification.predictions import BARE, ClassPredictions
from meddistill.evaluation.tasks.classification.zero_shot import class_vectors
from meddistill.progress import SilentProgress


def _task(world: Path, folder: Path, **content: Any) -> AnyTask:
    config = suite(tasks=[{"name": "one", **content}])
    parts = SuiteTables(config, base=world).parts(config.tasks[0])
    return build_task(config.tasks[0], parts, SampleNames(folder, examples=True))


def _predict(task: AnyTask, model: ColourModel, folder: Path) -> ClassPredictions:
    return task.predict(Embeddings(model, folder=folder, progress=SilentProgress()))


def test_every_config_has_its_task() -> None:
    assert set(TASKS) == set(TypeAdapter(AnyTaskConfig).json_schema()["discriminator"]["mapping"])


def test_class_vectors_equal_open_clips(tmp_path: Path) -> None:
    model = ColourModel()

    class Tower(nn.Module):
        def encode_text(self, tokens: list[str], normalize: bool = False) -> torch.Tensor:
            found = torch.from_numpy(model.embed_texts(tokens))
            return nn.functional.normalize(found, dim=-1) if normalize else found

    class Texts(list):
        def to(self, _: object) -> "Texts":
            return self

    templates = ["a {} image", "{}", "an old picture of something {}"]
    oracle = open_clip.build_zero_shot_classifier(
        Tower(),
        tokenizer=Texts,
        classnames=list(COLOURS),
        templates=[lambda name, each=each: each.format(name) for each in templates],
    )
    prompts = {name: tuple(each.format(name) for each in templates) for name in COLOURS}
    ours = class_vectors(Embeddings(model, folder=tmp_path, progress=SilentProgress()), prompts)
    np.testing.assert_allclose(ours, oracle.T.numpy(), atol=1e-6)


def test_zero_shot_probabilities_by_hand(world: Path, tmp_path: Path) -> None:
    task = _task(world, tmp_path, kind="zero_shot", table="test", classes=list(COLOURS))
    model = ColourModel()
    found = _predict(task, model, tmp_path).main
    images = normalized(model.embed_images(task.tested.samples, advance=lambda _: None))
    logits = 20.0 * images @ normalized(model.embed_texts(list(COLOURS))).T
    np.testing.assert_allclose(found.scores, torch.from_numpy(logits).softmax(dim=1).numpy(), atol=1e-6)
    assert found.classes == tuple(COLOURS)
    assert (found.scores.argmax(axis=1) == found.truth).mean() > 0.9
    assert len(set(found.samples)) == len(task.tested)


def test_auc_of_bare_cosines_is_scikit_learns(world: Path, tmp_path: Path) -> None:
    task = _task(world, tmp_path, kind="zero_shot", table="test", classes=list(COLOURS))
    model = ColourModel(noise=0.4)
    found = _predict(task, model, tmp_path)
    images = normalized(model.embed_images(task.tested.samples, advance=lambda _: None))
    cosines = images @ normalized(model.embed_texts(list(COLOURS))).T
    scores = found.metrics(Resampler(BootstrapConfig(resamples=20)))
    for setting, scale in (("", 20.0), (BARE, 1.0)):
        oracle = roc_auc_score(
            found.main.truth, softmax(scale * cosines.astype(float), axis=1), multi_class="ovr"
        )
        auc = [each for each in scores if (each.metric, each.setting) == ("auc", setting)]
        assert [each.replicates[0] for each in auc] == [pytest.approx(oracle, abs=1e-12)]
    told = {each.setting: each.replicates[0] for each in scores if each.metric == "auc"}
    assert told[""] != told[BARE]
    assert {each.metric for each in scores if each.setting == BARE} == {"auc"}
    np.testing.assert_array_equal(
        found.main.scores.argmax(axis=1), found.of_setting(BARE).scores.argmax(axis=1)
    )


def test_knn_votes_equal_scikit_learns() -> None:
    random = np.random.default_rng(0)
    gallery, queries = (normalized(random.normal(size=(rows, 8))) for rows in (200, 40))
    truth = random.integers(0, 3, 200)
    oracle = KNeighborsClassifier(n_neighbors=20, metric="cosine", algorithm="brute").fit(gallery, truth)
    np.testing.assert_allclose(votes(queries, gallery, np.eye(3)[truth], 20), oracle.predict_proba(queries))


def test_knn_ties_for_the_last_place_share_it() -> None:
    """By hand: the nearest is of class 0; the second place is shared by three of classes 1, 1, 2."""
    gallery = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0.6, -0.8], [-1, 0]], dtype=np.float32)
    found = votes(np.array([[1, 0]], dtype=np.float32), gallery, np.eye(3)[[0, 1, 1, 2, 2]], 2)
    np.testing.assert_allclose(found, [[1 / 2, 1 / 3, 1 / 6]])


def test_knn_with_fewer_images_than_neighbours(world: Path, tmp_path: Path) -> None:
    task = _task(world, tmp_path, kind="knn", train="train", test="test", k=1000)
    found = _predict(task, ColourModel(), tmp_path)
    labels = task.parts["train"].labels("label")
    shares = [labels.count(name) / len(labels) for name in found.classes]
    np.testing.assert_allclose(found.scores, np.tile(shares, (len(task.tested), 1)), rtol=1e-6)


def test_the_probe_is_logistic_regression_on_unscaled_embeddings(world: Path, tmp_path: Path) -> None:
    """Taking off the mean and dividing by one number is the same model under another C."""
    task = _task(world, tmp_path, kind="linear_probe", train="train", test="test", default_c=0.7)
    model = ColourModel(noise=0.3)
    found = _predict(task, model, tmp_path)
    train, test = (
        model.embed_images(task.parts[role].samples, advance=lambda _: None).astype(np.float64)
        for role in ("train", "test")
    )
    spread = np.sqrt(np.square(train - train.mean(axis=0)).mean())
    oracle = LogisticRegression(C=0.7 / spread**2, max_iter=10_000, tol=1e-8)
    oracle.fit(train, task.parts["train"].labels("label"))
    assert tuple(oracle.classes_) == found.classes
    np.testing.assert_allclose(found.scores, oracle.predict_proba(test), atol=2e-3)


def test_the_probe_chooses_c_on_validation(world: Path, tmp_path: Path) -> None:
    roles = {"train": "train", "validation": "val", "test": "test"}
    weak = _task(world, tmp_path, kind="linear_probe", **roles, grid=[1e-5])
    free = _task(world, tmp_path, kind="linear_probe", **roles, grid=[1e-5, 1.0])
    model = ColourModel()
    confidence = [_predict(task, model, tmp_path).scores.max(axis=1).mean() for task in (weak, free)]
    assert confidence[1] > confidence[0] + 0.1


def test_label_fractions_are_dumped_beside_the_whole(world: Path, tmp_path: Path) -> None:
    roles = {"train": "train", "test": "test"}
    task = _task(world, tmp_path, kind="linear_probe", **roles, fractions=[0.3, 1], seeds=2)
    found = _predict(task, ColourModel(noise=0.5), tmp_path)
    n = len(task.tested)
    assert found.settings == ("",) * n + ("30 % of training patients",) * 2 * n
    assert not any("the main numbers" in each for each in task.facts()["warnings"])
    few = _task(world, tmp_path, kind="linear_probe", **roles, fractions=[0.3])
    assert "the main numbers are of 30 % of training patients" in few.facts()["warnings"]
    assert found.seeds.tolist() == [0] * 2 * n + [1] * n
    assert not np.allclose(found.scores[n : 2 * n], found.scores[2 * n :])
    np.testing.assert_array_equal(found.truth[:n], found.truth[n : 2 * n])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (
            {"kind": "zero_shot", "table": "test", "classes": ["red", "green"]},
            TableError,
            r"'blue' \(\d+ rows\)",
        ),
        (
            {"kind": "linear_probe", "train": "train", "test": "test", "where": {"label": "red"}},
            TableError,
            "two classes at least",
        ),
        (
            {"kind": "knn", "train": "train", "test": "test", "where": {"task": "shape"}},
            ConfigError,
            "keeps none",
        ),
        (
            {"kind": "knn", "train": "train", "test": "test", "label": "lable"},
            TableError,
            "Did you mean `label`",
        ),
        ({"kind": "knn", "train": "train", "test": "train"}, TableError, "share patients"),
    ],
)
def test_refused_tables(
    world: Path, tmp_path: Path, content: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _predict(_task(world, tmp_path, **content), ColourModel(), tmp_path)


def test_one_tested_class_is_judged_without_auc(world: Path, tmp_path: Path) -> None:
    task = _task(
        world, tmp_path, kind="zero_shot", table="test", where={"label": "red"}, classes=list(COLOURS)
    )
    found = _predict(task, ColourModel(), tmp_path)
    assert set(found.truth) == {0}
    assert np.isfinite(found.scores).all()
