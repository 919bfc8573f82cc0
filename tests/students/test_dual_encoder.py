"""The student's numbers: normalisation, tokens, modes, logit scale."""

from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from meddistill.imaging import normalize
from meddistill.students.build import build_student
from meddistill.students.config import StudentConfig, TextTower
from meddistill.students.dual_encoder import DualEncoder
from meddistill.students.heads import TeacherHead
from meddistill.students.size import measure_latency, model_size
from plain_batch import batch_of

NASTY = [
    "",
    "   ",
    "Chest X-ray: “no” e\ufb03usion, it’s CLEAR",
    "&amp;amp;amp;lt; 5 &lt; 6 mm&nbsp;",
    "doesnâ€™t <start_of_text> a <END_OF_TEXT>b !!! !",
    "ΣΊΣΥΦΟΣ ﬁ İ K ſ 'ſ 胸部 \u200b 🫁 e\u0301",
    "tab\tline\nnull\x00 bell\x07",
    "word " * 200,
]


def test_pixels_are_normalized_as_the_runtime_does(tiny: DualEncoder, rasters: torch.Tensor) -> None:
    expected = torch.from_numpy(normalize(rasters.numpy(), tiny.input))
    torch.testing.assert_close(tiny.pixels(rasters), expected, rtol=0, atol=1e-6)


def test_ids_are_those_of_open_clip(tiny: DualEncoder) -> None:
    ids = tiny.tokenize(NASTY)
    assert ids.dtype == torch.int32
    assert torch.equal(ids.long(), SimpleTokenizer(context_length=77)(NASTY))
    assert tiny.tokenizer.lengths(["", "word " * 200]) == [2, 202]


def test_training_mode_gives_the_same_embeddings_up_to_rounding(rasters: torch.Tensor) -> None:
    tower = StudentConfig(open_clip="ViT-S-32-alt", image_size=64, text=TextTower(layers=2))
    student = build_student(tower, base=Path(), seed=0)
    tokens = student.tokenize(["a short one", "a chest radiograph without effusion", "x"])
    batch = batch_of(rasters, tokens)
    trained = student.train()(batch)
    evaluated = student.eval()(batch)
    torch.testing.assert_close(trained.text, evaluated.text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.image, evaluated.image, rtol=1e-4, atol=1e-5)


def test_training_leaves_out_padding_that_no_caption_needs(tiny: DualEncoder) -> None:
    seen = []
    tiny.model.text.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    tokens = tiny.tokenize(["chest x-ray", "a much longer caption of a chest x-ray with effusion"])
    tiny.train().embed_tokens(tokens)
    tiny.eval().embed_tokens(tokens)
    assert seen == [16, 77]


def test_a_text_tower_that_sees_padding_keeps_it() -> None:
    config = StudentConfig.model_validate(
        {"open_clip": "MobileCLIP2-S0", "image_size": 64, "text": {"width": 32, "heads": 1, "layers": 1}}
    )
    student = build_student(config, base=Path(), seed=0)
    tokens = student.tokenize(["a"])
    student.train()
    torch.testing.assert_close(
        student.embed_tokens(tokens), student.eval().embed_tokens(tokens), rtol=1e-4, atol=1e-6
    )


def test_padding_of_a_hugging_face_tower_is_left_out(bert_folder: Path) -> None:
    config = StudentConfig(
        preset="base", image_size=32, text=TextTower(hf=str(bert_folder), context_length=64)
    )
    student = build_student(config, base=Path(), seed=0).eval()
    seen = []
    student.model.text.transformer.embeddings.register_forward_pre_hook(
        lambda *call: seen.append(call[2]["input_ids"].shape[1]), with_kwargs=True
    )
    tokens = student.tokenize(["chest x-ray", "abc"])
    whole = student.embed_tokens(tokens)
    # Dropout would hide the comparison; only the cutting belongs to training here.
    student.training = True
    torch.testing.assert_close(student.embed_tokens(tokens), whole, rtol=1e-4, atol=1e-5)
    assert seen == [64, 8]


def test_logit_scale_is_clamped_to_1_and_100(tiny: DualEncoder) -> None:
    for value, kept in ((9.0, 100.0), (-1.0, 1.0)):
        tiny.model.logit_scale.data.fill_(value)
        tiny.after_update()
        assert tiny.logit_scale.item() == pytest.approx(kept)


def test_gradients_reach_both_towers_and_the_scale(tiny: DualEncoder, rasters: torch.Tensor) -> None:
    outputs = tiny.train()(batch_of(rasters, tiny.tokenize(["a", "b", "c"])))
    (outputs.logit_scale * (outputs.image * outputs.text).sum()).backward()
    assert [name for name, parameter in tiny.named_parameters() if parameter.grad is None] == []


def test_state_holds_the_weights_only(tiny: DualEncoder) -> None:
    assert {name.split(".")[0] for name in tiny.state_dict()} == {"model"}


def test_head_is_one_linear_map() -> None:
    head = TeacherHead(4, 6)
    x, y = torch.randn(2, 4), torch.randn(2, 4)
    assert head(x).shape == (2, 6)
    torch.testing.assert_close(head(x + y), head(x) + head(y) - head.linear.bias)


def test_size_and_speed(tiny: DualEncoder) -> None:
    size = model_size(tiny)
    assert size.parameters == sum(parameter.numel() for parameter in tiny.parameters())
    assert size.megabytes == pytest.approx(size.parameters * 4 / 1e6, rel=0.01)
    batches = []

    def embed(rasters: torch.Tensor) -> None:
        batches.append(tuple(rasters.shape))
        tiny.embed_images(rasters)

    latency = measure_latency(embed, tiny.input.geometry, device=tiny.device, batches=(1, 4), repeats=3)
    assert batches == [(1, 64, 64, 3)] * 4 + [(4, 64, 64, 3)] * 4
    assert set(latency.images_per_second) == {1, 4}
    assert min(latency.images_per_second.values()) > 0
