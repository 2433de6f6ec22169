"""The walkthrough's way of doing the chain's work, in PyTorch: the yardstick for the engines.

UNet and VAE decoder in FP16, batches of frames; each face is brought to the host, resized and blended onto the frame
by NumPy and OpenCV, and encoded by libx264. Three ways of running the models: eager, one CUDA graph, torch.compile.
Needs torch with CUDA, diffusers, av and cv2, and none of this project's packages. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

WIDTH, HEIGHT = 1280, 720
BOX = (548, 254, 732, 504)
WARM_UP = 3  # batches
Generate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="diffusers tree: unet/, vae/")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--ways", default="eager,graph,compile")
    args = parser.parse_args()
    models = load(args.checkpoint)
    report: dict[str, Any] = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "batch": args.batch}
    report["matrix_tflops"] = matrix_rate()
    report["gflop_a_frame"] = gflop_a_frame(*models)
    for way in args.ways.split(","):
        report[way] = measure(WAYS[way](*models, args.batch), models[0], args.batch, args.frames)
    print(json.dumps(report))


def load(checkpoint: Path) -> tuple[Any, Any]:
    """UNet and VAE in FP16 on the GPU."""
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=torch.float16).cuda().eval()
    vae = AutoencoderKL.from_pretrained(checkpoint / "vae", torch_dtype=torch.float16).cuda().eval()
    return unet, vae


def eager(unet: Any, vae: Any, batch: int) -> Generate:  # noqa: ARG001
    zero = torch.zeros(1, device="cuda")

    def generate(latents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        prediction = unet(latents, zero, tokens).sample
        images = vae.decode(prediction / vae.config.scaling_factor).sample
        return (images / 2 + 0.5).clamp(0, 1)

    return generate


def compiled(unet: Any, vae: Any, batch: int) -> Generate:
    return torch.compile(eager(unet, vae, batch), mode="reduce-overhead")


def graph(unet: Any, vae: Any, batch: int) -> Generate:
    """Everything from latents to images in one CUDA graph, over fixed buffers."""
    run = eager(unet, vae, batch)
    inputs = make_inputs(unet, batch)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        output = run(*inputs)

    def generate(latents: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        inputs[0].copy_(latents)
        inputs[1].copy_(tokens)
        captured.replay()
        return output

    return generate


WAYS: dict[str, Callable[[Any, Any, int], Generate]] = {"eager": eager, "graph": graph, "compile": compiled}


def make_inputs(unet: Any, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    size = unet.config.sample_size
    kind: Any = {"dtype": unet.dtype, "device": unet.device}
    latents = torch.randn(batch, unet.config.in_channels, size, size, **kind)
    tokens = torch.randn(batch, 50, unet.config.cross_attention_dim, **kind)
    return latents, tokens


@torch.inference_mode()
def measure(generate: Generate, unet: Any, batch: int, frames: int) -> dict[str, float]:
    """Milliseconds a frame of the models alone, and frames a second of the whole chain."""
    inputs = make_inputs(unet, batch)
    for _ in range(WARM_UP):
        generate(*inputs)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(20):
        generate(*inputs)
    end.record()
    torch.cuda.synchronize()
    picture = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 12)
    mask = make_mask()
    encode = make_encoder()
    start = time.perf_counter()
    for index in range(0, frames, batch):
        images = generate(*inputs).permute(0, 2, 3, 1).float().cpu().numpy()
        for k, face in enumerate((images * 255).round().astype(np.uint8)):
            encode(index + k, blend(picture, face, mask))
    elapsed = time.perf_counter() - start
    return {"models_ms_a_frame": begin.elapsed_time(end) / 20 / batch, "fps": frames / elapsed}


def blend(picture: np.ndarray, face: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """MuseTalk's way: the face, resized, into a copy of the frame, under a blurred mask."""
    x0, y0, x1, y1 = BOX
    result = picture.copy()
    resized = cv2.resize(face, (x1 - x0, y1 - y0)).astype(np.float32)
    under = result[y0:y1, x0:x1].astype(np.float32)
    result[y0:y1, x0:x1] = (resized * mask + under * (1 - mask)).astype(np.uint8)
    return result


def make_mask() -> np.ndarray:
    mask = np.zeros((BOX[3] - BOX[1], BOX[2] - BOX[0], 1), np.float32)
    mask[mask.shape[0] // 2 : -10, 15:-15] = 1
    return cv2.GaussianBlur(mask, (0, 0), 8)[..., None]


def make_encoder() -> Callable[[int, np.ndarray], None]:
    """libx264 as the runtime sets it; its packets are thrown away."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = WIDTH, HEIGHT, "yuv420p", Fraction(1, 25)
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "qp": "20", "g": "25"}

    def encode(index: int, rgb: np.ndarray) -> None:
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
        frame.pts = index
        codec.encode(frame)

    return encode


@torch.no_grad()
def gflop_a_frame(unet: Any, vae: Any) -> dict[str, float]:
    """Floating-point operations of one frame in 1e9, counted by torch: two for each multiply and add of a product."""
    latents, tokens = make_inputs(unet, 1)
    zero = torch.zeros(1, device=unet.device)
    with sdpa_kernel(SDPBackend.MATH):  # plain products, whichever kernels attention has here
        with FlopCounterMode(display=False) as of_unet:
            prediction = unet(latents, zero, tokens).sample
        with FlopCounterMode(display=False) as of_decoder:
            vae.decode(prediction)
    counts = {"unet": of_unet, "vae_decoder": of_decoder}
    return {model: round(count.get_total_flops() / 1e9, 3) for model, count in counts.items()}


def matrix_rate(size: int = 8192) -> float:
    """TFLOP/s of a large FP16 matrix product on random data: the ceiling of this card."""
    a, b = (torch.randn(size, size, dtype=torch.float16, device="cuda") for _ in range(2))
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(3):
        a @ b
    begin.record()
    for _ in range(10):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 2 * size**3 * 10 / begin.elapsed_time(end) / 1e9


if __name__ == "__main__":
    main()
