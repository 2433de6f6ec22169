"""What decoders cost on this CPU: small ones of the presets, whole and without hidden rows, and Stable Diffusion's.

    PYTHONPATH=export:runtime python scripts/bench/decoders.py [--sd] > OUT.json

Prints JSON: by preset the GFLOP of a whole face, and milliseconds of CPU time a frame on a thread of ONNX Runtime, the
least and the median of the runs, which take turns. CPU time, so that other work on the machine counts less.
``largest_difference`` is that of the rows that are shown, in levels of 255. --sd adds Stable Diffusion's decoder, which
takes a minute. Weights are random: they change no time. On a GPU: scripts/gpu/plans.py MODELSET OUT.json --graphs
vae_decoder, for model sets of the presets.
"""

import argparse
import io
import json
import time
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from musetalk_distill.evaluate.candidate import gflop
from musetalk_export.checkpoint.preset import PRESETS, random_decoder, random_vae
from musetalk_export.graphs.vae import DecoderGraph, TinyDecoderGraph
from musetalk_runtime.avatar.box import hidden_rows
from musetalk_runtime.diagnostics.processor import processor

SMALL = ("demo", "student-half-taesd", "student-taesd")
SIZE = 256  # of a face, in pixels
BATCH, RUNS = 4, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd", action="store_true", help="Stable Diffusion's decoder, too")
    args = parser.parse_args()
    latents = np.random.default_rng(0).standard_normal((BATCH, 4, SIZE // 8, SIZE // 8)).astype(np.float32)
    report: dict[str, Any] = {**processor(), "batch": BATCH, "threads": 1, "hidden_rows": hidden_rows(SIZE)}
    report["decoders"] = {preset: measure_small(preset, latents) for preset in SMALL}
    if args.sd:
        graph = DecoderGraph(random_vae(PRESETS["student"].vae))
        work = gflop(graph, torch.from_numpy(latents[:1]))
        report["decoders"]["student"] = {"gflop": work, "whole": cpu_ms([session(graph)], latents[:1], 2)[0]}
    print(json.dumps(report, indent=1))


def measure_small(preset: str, latents: NDArray[np.float32]) -> dict[str, Any]:
    decoder = random_decoder(PRESETS[preset].decoder or {})
    graphs = [TinyDecoderGraph(decoder, hidden) for hidden in (0, hidden_rows(SIZE))]
    sessions = [session(graph) for graph in graphs]
    whole, shown = (run.run(None, {"latents": latents})[0][:, :, hidden_rows(SIZE) :] for run in sessions)
    times = cpu_ms(sessions, latents, RUNS)
    return {
        "gflop": gflop(graphs[0], torch.from_numpy(latents[:1])),
        "whole": times[0],
        "shown_rows": times[1],
        "faster_by": round(times[0]["least_ms"] / times[1]["least_ms"], 3),
        "largest_difference": float(np.abs(whole - shown).max() * 255),
    }


def session(graph: nn.Module) -> onnxruntime.InferenceSession:
    """`graph` on one thread."""
    file, options = io.BytesIO(), onnxruntime.SessionOptions()
    torch.onnx.export(
        graph.eval(), (torch.zeros(1, 4, SIZE // 8, SIZE // 8),), file, opset_version=17, dynamo=False,  # type: ignore[arg-type]
        input_names=["latents"], output_names=["images"], dynamic_axes={"latents": {0: "N"}, "images": {0: "N"}},
    )  # fmt: skip
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def cpu_ms(
    sessions: list[onnxruntime.InferenceSession], latents: NDArray[np.float32], runs: int
) -> list[dict[str, float]]:
    """CPU milliseconds a frame of each session, which take turns."""
    found: list[list[float]] = [[] for _ in sessions]
    for _ in range(runs):
        for times, one in zip(found, sessions, strict=True):
            start = time.process_time()
            one.run(None, {"latents": latents})
            times.append((time.process_time() - start) * 1e3 / len(latents))
    return [{"least_ms": round(min(times), 2), "median_ms": round(median(times), 2)} for times in found]


if __name__ == "__main__":
    main()
