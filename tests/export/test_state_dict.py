"""State dicts as trainers leave them: nested, averaged, and with the names of what wrapped the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from helpers.graphs import assert_refused
from helpers.weights import Tensors, assert_same, edit_weights
from musetalk_export.checkpoint.checkpoint import read_checkpoint

UNET = "student/unet.pth"


def prefixed(weights: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in weights.items()}


def other(weights: Tensors) -> Tensors:
    return {name: tensor + 1 for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "nest",
    [
        lambda weights: {"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}},
        lambda weights: {"model": weights, "step": torch.tensor(3)},
        lambda weights: {"model_state_dict": prefixed(weights, "module.")},
        lambda weights: {"module": weights, "lr_scheduler": None},
        lambda weights: {"unet": {"state_dict": weights}},
        lambda weights: prefixed(weights, "_orig_mod."),
        lambda weights: prefixed(weights, "module._orig_mod."),
        lambda weights: prefixed(weights, "_orig_mod.module.unet."),
        lambda weights: {name.replace("blocks.", "blocks._orig_mod."): tensor for name, tensor in weights.items()},
        lambda weights: {"state_dict": prefixed(weights, "model."), "pytorch-lightning_version": "2.4.0"},
    ],
)
def test_what_trainers_nest_and_wrap_is_read(
    nest: Callable[[Tensors], Any], musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_weights(copied / UNET, nest)
    assert_same(copied, musetalk_tree)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("nest", "words"),
    [
        (lambda weights: {"state_dict": other(weights), "ema_state_dict": weights}, "ema_state_dict is read, and not"),
        (lambda weights: {"model": other(weights), "model_ema": weights}, "its model_ema is read, and not its model"),
        (
            lambda weights: {"params": other(weights), "params_ema": weights},
            "its params_ema is read, and not its params",
        ),
        (
            lambda weights: {"ema": prefixed(weights, "module."), "model": other(weights)},
            "its ema is read, and not its",
        ),
        (
            lambda weights: {
                "step": torch.tensor(3),
                **prefixed(other(weights), "online_model."),
                **prefixed(weights, "ema_model."),
            },
            "its ema_model is read, and not its online_model, step",
        ),
        (
            lambda weights: {
                "state_dict": weights,
                "ema": {"decay": 0.9, "shadow_params": list(other(weights).values())},
            },
            "its state_dict is read, and not its ema",
        ),
    ],
)
def test_averaged_weights_are_read_and_told(
    nest: Callable[[Tensors], Any], words: str, musetalk_tree: Path, copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_weights(copied / UNET, nest)
    assert_same(copied, musetalk_tree)
    assert words in caplog.text


def test_torchs_own_wrappers_are_read(musetalk_tree: Path, copied: Path) -> None:
    """DataParallel of torch.compile's module, and AveragedModel, which counts what it has averaged."""
    unet = read_checkpoint(musetalk_tree).unet
    torch.save(nn.DataParallel(torch.compile(unet, backend="eager")).state_dict(), copied / UNET)
    assert_same(copied, musetalk_tree)
    averaged = AveragedModel(unet, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    averaged.update_parameters(unet)
    assert "n_averaged" in averaged.state_dict()
    torch.save(averaged.state_dict(), copied / UNET)
    assert_same(copied, musetalk_tree)


@pytest.mark.parametrize(
    ("nest", "words"),
    [
        (lambda weights: {"decay": 0.9, "shadow_params": list(weights.values())}, ["averaged weights without names"]),
        (lambda weights: {"ema": {"shadow_params": list(weights.values())}}, ["averaged weights without names"]),
        (lambda weights: {"student": weights}, ["expected names and tensors", "save a state_dict"]),
        (lambda _: {}, ["expected names and tensors"]),
        (lambda _: {"state_dict": {}}, ["expected names and tensors"]),
        (
            lambda _: {"state_dict": {"state_dict": {"state_dict": {"state_dict": {"state_dict": {}}}}}},
            ["expected names"],
        ),
        (lambda weights: weights | {"\x1b[2Jone\ntwo": torch.zeros(1)}, [r"1 weights unknown ('\x1b[2Jone\ntwo')"]),
        (lambda weights: weights | {"x" * 10_000: torch.zeros(1)}, ["1 weights unknown (xxx", "xxx...)"]),
        (lambda weights: weights | {"_orig_mod.conv_in.bias": torch.zeros(16)}, ["two of its weights have one name"]),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    nest: Callable[[Tensors], Any], words: list[str], copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_weights(copied / UNET, nest)
    assert_refused(capsys, [str(copied)], tmp_path / "set", UNET, *words)
