"""Weights as a model's parameters: every name, shape and type must fit, and every value be a finite number."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from musetalk_export.checkpoint.names import MAX_LISTED, listed
from musetalk_export.checkpoint.state_dict import Weights
from musetalk_runtime.core.errors import InvalidCheckpoint

log = logging.getLogger(__name__)

LARGEST_USUAL = 65504.0  # FP16's largest number; damage that stays finite is mostly far beyond it


def fill(model: nn.Module, weights: Weights, file: Path, config: Path) -> None:
    """Make `weights` the parameters of `model` (built on the meta device), in FP32, for inference.

    Raises InvalidCheckpoint if a name is missing or unknown, a shape differs, a tensor holds no floating-point numbers,
    or one that is not finite, naming the first few. Values that no such model has are told.
    """
    expected = model.state_dict()
    faults = [
        *_count("missing", expected.keys() - weights.keys()),
        *_count("unknown", weights.keys() - expected.keys()),
        *_misshapen(expected, weights),
    ]
    if faults:
        raise InvalidCheckpoint(f"{file}: does not fit {config}: {'; '.join(faults)}")
    parameters = {name: _float(file, name, tensor) for name, tensor in weights.items()}
    _check_values(file, parameters)
    model.load_state_dict(parameters, assign=True)
    model.eval().requires_grad_(False)


def _float(file: Path, name: str, tensor: Tensor) -> Tensor:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.dtype.is_floating_point:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InvalidCheckpoint(f"{file}: {name} is {kind} ({tensor.layout}, {tensor.device}), expected FP32 or FP16")
    return tensor.float()


def _check_values(file: Path, parameters: Weights) -> None:
    broken, huge = [], []
    for name, tensor in ((name, parameters[name]) for name in sorted(parameters) if parameters[name].numel()):
        lowest, highest = (float(value) for value in torch.aminmax(tensor))  # NaN where one is
        largest = max(-lowest, highest)
        if not torch.isfinite(torch.tensor([lowest, highest])).all():
            broken.append(name)
        elif largest > LARGEST_USUAL:
            huge.append(f"{name} {largest:.1e}")
    if broken:
        raise InvalidCheckpoint(
            f"{file}: NaN or infinity in {len(broken)} weights ({listed(broken)}): they are damaged: download or copy "
            "the file again, or train again"
        )
    if huge:
        log.warning("%s: are its weights damaged? %d have values beyond 65504 (%s)", file, len(huge), listed(huge))


def _count(fault: str, names: set[str]) -> list[str]:
    return [f"{len(names)} weights {fault} ({listed(sorted(names))})"] if names else []


def _misshapen(expected: Weights, weights: Weights) -> list[str]:
    wrong = [
        f"{name} is {list(weights[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return [*wrong[:MAX_LISTED], *([f"and {len(wrong) - MAX_LISTED} more shapes"] if len(wrong) > MAX_LISTED else [])]
