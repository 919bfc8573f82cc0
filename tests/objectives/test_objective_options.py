"""What a recipe says of objectives, from its words to what is built."""

import pytest

from meddistill.methods.config import EmbeddingConfig
from meddistill.objectives.config import EmbeddingObjectives, StudentObjectives
from meddistill.objectives.registry import (
    Layers,
    build_student_objective,
    build_teacher_objective,
)


def test_a_recipe_gives_a_weight_or_options() -> None:
    objectives = EmbeddingObjectives.model_validate(
        {
            "feature_mse": 50,
            "cosine_smooth_l1": "1e-3",
            "interactive_contrastive": {"weight": 2.0, "scale": 10},
        }
    )
    chosen = objectives.chosen()
    assert {name: options.weight for name, options in chosen.items()} == {
        "feature_mse": 50.0,
        "cosine_smooth_l1": 1e-3,
        "interactive_contrastive": 2.0,
    }
    layers = Layers(student_dim=4, teacher_dim=3, seed=0)
    built = build_teacher_objective(
        "interactive_contrastive", chosen["interactive_contrastive"], layers=layers
    )
    assert built.scale == 10
    diagonal = StudentObjectives.model_validate({"contrastive": {"as_published": True}})
    assert build_student_objective("contrastive", diagonal.chosen()["contrastive"]).as_published


@pytest.mark.parametrize(
    "content",
    [
        {"feature_mse": 0},
        {"feature_mse": -1},
        {"feature_mse": True},
        {"feature_mze": 1},
        {"cosine_smooth_l1": {"cosine": 0, "smooth_l1": 0}},
        {"similarity_kl": {"teacher_scale": 0}},
        {"similarity_kl": {"temperature": 0}},
        {"similarity_kl": {"temperature": {"alpha": -1}}},
        {"gradient_distillation": {"temperature": 2}},
        {"class_vector_kl": {"negatives": "bank"}},
        {"class_vector_kl": {"bank": "diseases"}},
        {"class_vector_kl": {"negatives": "queue"}},
        {"class_vector_kl": {"negatives": "queue", "queue_size": 0}},
        {"class_vector_kl": {"negatives": "queue", "queue_size": 8, "bank": "diseases"}},
    ],
)
def test_wrong_objectives_are_refused(content) -> None:
    with pytest.raises(ValueError, match="validation error"):
        EmbeddingObjectives.model_validate(content)


@pytest.mark.parametrize(
    "negatives",
    [{"negatives": "bank", "bank": "x"}, {"negatives": "batch"}, {"negatives": "queue", "queue_size": 4}],
)
def test_class_vectors_say_what_they_need(negatives) -> None:
    config = EmbeddingConfig.model_validate(
        {"method": "embedding", "objectives": {"class_vector_kl": negatives}}
    )
    with_bank = negatives["negatives"] == "bank"
    assert config.banks == (("x",) if with_bank else ())
    assert config.only_captioned == (not with_bank)
    assert bool(config.needs_captions) == (not with_bank)


@pytest.mark.parametrize(
    ("objective", "match"),
    [
        ({"class_vector_kl": {"negatives": "bank", "bank": "x"}}, "set `negatives` to batch or queue"),
        (
            {"similarity_kl": {"temperature": {"alpha": 2.0}}},
            "`objectives.similarity_kl.temperature` must be one",
        ),
    ],
)
def test_an_ensemble_takes_neither_a_bank_nor_a_number_for_each_teacher(objective, match) -> None:
    content = {"method": "embedding", "objectives": objective, "projection": {"kind": "joint_pca"}}
    with pytest.raises(ValueError, match=match):
        EmbeddingConfig.model_validate(content)
