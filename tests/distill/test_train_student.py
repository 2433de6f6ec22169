"""The student's shape and first weights."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from helpers.training import TEACHER_UNET
from musetalk_distill.train.tasks.one_step import OneStepUNet
from musetalk_distill.train.tasks.student import counterpart, make_student, student_config
from musetalk_export.checkpoint.preset import PRESETS, random_unet
from musetalk_export.graphs.unet import UNetGraph
from musetalk_runtime.core.errors import InputNotFound, InvalidCheckpoint


@pytest.fixture(scope="module")
def teacher():
    return random_unet(TEACHER_UNET)


def test_rule_gives_the_preset() -> None:
    teacher = UNet2DConditionModel.from_config({**PRESETS["teacher"].unet, "block_out_channels": [32, 64, 96, 96]})
    config = student_config(dict(teacher.config), None)
    expected = {**PRESETS["student"].unet, "block_out_channels": [32, 64, 96]}
    assert {name: config[name] for name in expected} == expected


def test_weights_are_the_teachers(teacher) -> None:
    student, match = make_student(teacher, student_config(dict(teacher.config), None), seed=0)
    own, others = student.state_dict(), teacher.state_dict()
    sources = {name: counterpart(name, student.config, teacher.config) for name in own}
    assert all(torch.equal(own[name], others[source]) for name, source in sources.items())
    assert (match.copied, match.fresh) == (len(own), [])
    # Written out once: the first layers of a pair, the last on the way up, and one stage less.
    assert sources["down_blocks.1.resnets.0.conv1.weight"] == "down_blocks.1.resnets.0.conv1.weight"
    assert sources["up_blocks.0.resnets.0.conv1.weight"] == "up_blocks.1.resnets.0.conv1.weight"
    assert sources["up_blocks.0.resnets.1.conv1.weight"] == "up_blocks.1.resnets.2.conv1.weight"
    assert sources["up_blocks.1.attentions.1.norm.weight"] == "up_blocks.2.attentions.2.norm.weight"
    assert sources["up_blocks.0.upsamplers.0.conv.bias"] == "up_blocks.1.upsamplers.0.conv.bias"


def test_narrow_student_draws_what_does_not_fit(teacher, tmp_path) -> None:
    (tmp_path / "narrow.json").write_text(json.dumps({"block_out_channels": [8, 12]}))
    config = student_config(dict(teacher.config), str(tmp_path / "narrow.json"))
    student, match = make_student(teacher, config, seed=3)
    assert "down_blocks.1.resnets.0.conv1" in match.fresh
    assert "down_blocks.0.resnets.0.conv1" not in match.fresh
    assert torch.equal(student.conv_in.weight, teacher.conv_in.weight)
    again, _ = make_student(teacher, config, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"cross_attention_dim": 24}, "attn2.to_k.weight is [8, 24], the teacher's down_blocks.0"),
        ({"layers_per_block": 3}, "down_blocks.0.resnets.2. has no counterpart"),
        ({"block_out_channels": [8, 16, 16, 16], "down_block_types": ["DownBlock2D"] * 4,
          "up_block_types": ["UpBlock2D"] * 4}, "4 stages, more than the teacher's 3"),
        ({"block_out_channels": [8, 15]}, "the student's config: no model can be built"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_match(teacher, changed, named) -> None:
    with pytest.raises(InvalidCheckpoint) as caught:
        make_student(teacher, {**student_config(dict(teacher.config), None), **changed}, seed=0)
    assert named in str(caught.value)


def test_config_that_is_not_there(teacher) -> None:
    with pytest.raises(InputNotFound, match=r"no such student config; presets are .*student"):
        student_config(dict(teacher.config), "nowhere.json")
    assert student_config(dict(teacher.config), "student")["block_out_channels"] == [320, 640, 1280]


def test_one_step_is_what_is_exported(teacher) -> None:
    import copy

    inputs, tokens = torch.randn(2, 8, 8, 8), torch.randn(2, 20, 16)
    with torch.no_grad():
        found, features = OneStepUNet(teacher, 20)(inputs, tokens)
        expected = UNetGraph(copy.deepcopy(teacher), 20)(inputs, tokens)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (8, 8, 8), (16, 4, 4), (16, 2, 2), (16, 4, 4), (16, 8, 8), (8, 8, 8),
    ]  # fmt: skip


def test_projections_where_widths_differ(teacher) -> None:
    step = OneStepUNet(teacher, 20, [8, 24, 16, 16, 16, 10])
    _, features = step(torch.randn(1, 8, 8, 8), torch.randn(1, 20, 16))
    assert [feature.shape[1] for feature in features] == [8, 24, 16, 16, 16, 10]
    assert len(list(step.projections.parameters())) == 4


def test_folder(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InvalidCheckpoint, match="not valid JSON"):
        student_config(dict(TEACHER_UNET), str(tmp_path / "broken.json"))
