"""A model under evaluation: the pictures it makes, and what a frame costs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from musetalk_distill.train.data.batch import Batch
from musetalk_distill.train.tasks.factory import check_spec
from musetalk_distill.train.tasks.latent_decoder import LatentDecoder
from musetalk_distill.train.tasks.one_step import OneStepUNet
from musetalk_export.checkpoint.checkpoint import count, read_checkpoint
from musetalk_runtime.core.model import ModelSpec

MIN_RUNS, MAX_RUNS, MAX_SECONDS = 4, 20, 2.0  # of timing one model; the seconds may be passed by one run


class Candidate:
    """The U-Net and the decoder of the checkpoint at `path`, in FP32; `decoder` is a small one's folder, if any.

    Without a U-Net (`painter` false) it paints the true latents: no model of this decoder can do better.
    Raises InputNotFound or InvalidCheckpoint.
    """

    def __init__(
        self, path: Path, spec: ModelSpec, device: torch.device, decoder: Path | None = None, painter: bool = True
    ):
        models = read_checkpoint(path, decoder_folder=decoder)
        check_spec(path, models.spec, spec)
        self.name = str(path) if decoder is None else f"{path} + {decoder}"
        self.name = self.name if painter else f"{self.name}: the decoder alone"
        self._unet = OneStepUNet(models.unet, spec.tokens).eval().to(device) if painter else None
        self._decode = LatentDecoder(models.decoder).eval().to(device)
        for module in (self._unet, self._decode):
            if module is not None:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def paint(self, batch: Batch) -> Tensor:
        """Pictures ``[N, 3, I, I]`` of `batch`, in [0, 1]."""
        latents = self._predict(batch)
        images: Tensor = self._decode(latents).clamp(0, 1)
        return images

    @torch.no_grad()
    def cost(self, batch: Batch) -> dict[str, Any]:
        """Parameters, and floating-point operations and milliseconds a frame, measured on a `batch` of one.

        A multiplication and an addition are two operations, as torch's counter has it. ``ms`` is the median, and
        ``ms_spread`` the first and third quartile: on a CPU of the CPU time of one thread, which other programs change
        far less than the time that passes, and on a GPU of the time that passes.
        """
        milliseconds = _milliseconds(lambda: self.paint(batch), batch.inputs.device)
        latents = self._predict(batch)
        return {
            "unet_parameters": count(self._unet),
            "decoder_parameters": count(self._decode),
            "unet_gflop": gflop(self._unet, batch.inputs, batch.tokens) if self._unet else 0.0,
            "decoder_gflop": gflop(self._decode, latents),
            "ms": milliseconds[1],
            "ms_spread": [milliseconds[0], milliseconds[2]],
        }

    def _predict(self, batch: Batch) -> Tensor:
        return batch.target if self._unet is None else self._unet(batch.inputs, batch.tokens)[0]


def gflop(module: nn.Module, *inputs: Tensor) -> float:
    """Floating-point operations of ``module(*inputs)``, in 1e9; a multiplication and an addition are two."""
    # Plain attention is made of products of matrices, which the counter knows on every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(*inputs)
    return round(float(counter.get_total_flops()) / 1e9, 4)


def _milliseconds(call: Callable[[], object], device: torch.device) -> list[float]:
    """The quartiles of the runs after the first."""
    times: list[float] = []
    with _one_thread() if device.type == "cpu" else nullcontext():
        clock = time.thread_time if device.type == "cpu" else time.perf_counter
        begun = time.perf_counter()
        while len(times) < MIN_RUNS or (len(times) < MAX_RUNS and time.perf_counter() - begun < MAX_SECONDS):
            start = clock()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - start)
    return [round(value * 1e3, 3) for value in quantiles(times[1:], n=4, method="inclusive")]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block PyTorch computes in the calling thread alone: several wait for each other, and count it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
