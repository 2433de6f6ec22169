"""The yardstick's figures: the scripts' own arithmetic, with no GPU."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helpers.paths import SCRIPTS


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The script that the test's parameter names, imported."""
    from importlib import import_module

    monkeypatch.syspath_prepend(str(SCRIPTS / "bench"))
    found = import_module(request.param)
    monkeypatch.delitem(sys.modules, request.param)
    return found


@pytest.mark.parametrize("script", ["reference"], indirect=True)
def test_tflops_are_work_by_time(script: ModuleType) -> None:
    reference: dict[str, Any] = {
        "matrix_tflops": 700.0,
        "gflop_a_frame": {"unet": 108.0, "vae_decoder": 622.0},
        "eager": {"models_ms_a_frame": 7.3, "fps": 50.0},
    }
    chain = {"stages": {"unet": {"p50_ms": 0.72}, "vae_decoder": {"p50_ms": 2.48}, "compose": {"p50_ms": 0.02}}}
    found = script.tflops(reference, chain, ["eager"])
    assert found["matrix_tflops"] == 700
    assert found["chain"]["unet"] == {"tflops": 150.0, "of_matrix": round(150 / 700, 4)}
    assert found["chain"]["vae_decoder"]["tflops"] == pytest.approx(250.81)
    assert found["chain"]["models"]["tflops"] == pytest.approx(730 / 3.2, abs=0.01)
    assert found["eager"] == {"models": {"tflops": 100.0, "of_matrix": round(100 / 700, 4)}}


@pytest.mark.parametrize("script", ["reference_chain"], indirect=True)
def test_flops_are_those_of_the_layers_and_of_attention(script: ModuleType, checkpoint: Path) -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet").eval()
    vae = AutoencoderKL.from_pretrained(checkpoint / "vae").eval()
    done = {"unet": 0, "vae_decoder": 0}
    hook_flops(unet, done, "unet")
    hook_flops(vae, done, "vae_decoder")
    found = script.gflop_a_frame(unet, vae)
    assert min(done.values()) > 0
    assert found == {model: round(flops / 1e9, 3) for model, flops in done.items()}


def hook_flops(model: Any, done: dict[str, int], name: str) -> None:
    """Have each forward pass of `model` add its FLOPs, by the layers' sizes, to ``done[name]``."""
    import torch
    from diffusers.models.attention_processor import Attention

    def weighted(layer: Any, _inputs: Any, output: torch.Tensor) -> None:
        done[name] += 2 * layer.weight[0].numel() * output.numel()

    def attention(layer: Any, inputs: Any, given: dict[str, Any], _output: Any) -> None:
        hidden = inputs[0]
        length = hidden[0, 0].numel() if hidden.ndim == 4 else hidden.shape[1]
        other = given.get("encoder_hidden_states")
        done[name] += 4 * length * (length if other is None else other.shape[1]) * layer.to_q.out_features

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(weighted)
        elif isinstance(module, Attention):
            module.register_forward_hook(attention, with_kwargs=True)
