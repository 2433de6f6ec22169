#!/usr/bin/env python3
"""What it costs on a GPU to match faces with their frames and to compose them, by batch size, with and without detail.

    PYTHONPATH=engines:runtime python scripts/gpu/compose.py [--size 1280x720] [--box 480x480] [--batch-sizes 1,4,8]

The kernels are compiled for this GPU, by NVRTC or nvcc; no engine is needed. Frames and faces are random, in FP16 of
256 x 256. ``auto`` has a base layer and sharpening, as ``--detail auto`` has for an avatar that is sharper than the
model, ``off`` has neither. Each figure is the least of --repeat runs of 100 batches in turn, in microseconds a frame.
The batches are one CUDA graph. Prints JSON. Not measured: copies to and from the host.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_engines.kernel import compile_kernel
from musetalk_runtime.avatar.base_layer import BaseLayer
from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.item import ITEM
from musetalk_runtime.backends.cuda.kernels import COMPOSE_SOURCE, Kernels, matched_bytes
from musetalk_runtime.backends.cuda.memory import DeviceMemory
from musetalk_runtime.backends.trt.gpu_facts import gpu_facts

SIDE, MASK_SIDE, BATCHES = 256, 64, 100
DETAIL = ("off", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1280x720", help="of the frames (default: 1280x720)")
    parser.add_argument("--box", default="480x480", help="of the face, in the frame's middle (default: 480x480)")
    parser.add_argument("--batch-sizes", default="1,4,8", help="default: 1,4,8")
    parser.add_argument("--repeat", type=int, default=5, help="runs (default: 5)")
    args = parser.parse_args()
    (width, height), (across, down) = (map(int, text.split("x")) for text in (args.size, args.box))
    left, top = (width - across) // 2, (height - down) // 2
    box = (left, top, left + across, top + down)
    device, facts = open_device(), gpu_facts()
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "compose.cubin"
        compile_kernel(COMPOSE_SOURCE, facts.arch, cubin)
        kernels = Kernels(cubin)
    report: dict[str, Any] = {"gpu": facts.name, "driver": facts.driver, "frame": args.size, "box": args.box}
    for detail in DETAIL:
        found = {
            int(size): measure(device, kernels, int(size), (width, height), box, detail, args.repeat)
            for size in args.batch_sizes.split(",")
        }
        report[detail] = {"us_a_frame_by_batch": found}
    print(json.dumps(report, indent=1))


def measure(
    device: Any,
    kernels: Kernels,
    count: int,
    frame: tuple[int, int],
    box: tuple[int, int, int, int],
    detail: str,
    repeat: int,
) -> float:
    """Microseconds a frame."""
    random, stream = np.random.default_rng(0), device.create_stream()
    width, height = frame
    pictures = random.integers(16, 236, (count, height * 3 // 2, width), dtype=np.uint8)
    mask = np.full((MASK_SIDE, MASK_SIDE), 255, np.uint8)
    held: list[DeviceMemory] = []

    def put(array: np.ndarray) -> int:
        held.append(DeviceMemory(device, array.nbytes))
        copy(held[-1].address, array.ctypes.data, array.nbytes, stream)
        stream.sync()
        return held[-1].address

    items = np.zeros(count, ITEM)
    faces = put(random.random((count, 3, SIDE, SIDE)).astype(np.float16))
    for number, item in enumerate(items):
        item["frame"], item["output"], item["mask"] = put(pictures[number]), put(pictures[number]), put(mask)
        item["face"], item["box"], item["weight"] = number, box, 1.0
        if detail == "auto":
            layer = BaseLayer.of(pictures[number], mask, box, SIDE, 0.4)
            item["base"], item["sharpening"] = put(layer.packed()), layer.sharpening
    listed, matched = put(items), put(np.zeros(count * matched_bytes(SIDE), np.uint8))

    builder = device.create_graph_builder()
    builder.begin_building("relaxed")
    for _ in range(BATCHES):
        kernels.match(builder.stream, listed, count, faces, matched, SIDE, np.float16)
        kernels.compose(builder.stream, listed, count, matched, SIDE, frame)
    graph = builder.end_building().complete()
    begin, end = (device.create_event({"timing_enabled": True}) for _ in range(2))
    times = []
    for _ in range(repeat):
        graph.launch(stream)  # to warm up
        stream.record(begin)
        graph.launch(stream)
        stream.record(end)
        end.sync()
        times.append((end - begin) * 1e3 / BATCHES / count)
    graph.close()
    builder.close()
    for memory in held:
        memory.close()
    return round(min(times), 2)


if __name__ == "__main__":
    main()
