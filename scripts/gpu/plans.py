"""What plans cost and reach on this GPU: by batch size, by optimisation level, and as one engine or several.

    PYTHONPATH=engines:runtime python scripts/gpu/plans.py MODELSET OUT.json [--graphs vae_decoder,unet]
        [--levels 2] [--batch-sizes 1,4] [--apart]

Builds each graph at each level, its batch sizes as profiles of one engine; with --apart also as engines of their own.
Writes JSON: build seconds, bytes, GPU memory once each profile ran, and by batch size milliseconds on the GPU, TFLOP/s,
their share of what a large FP16 matrix product reached (--ceiling, from scripts/bench/reference.py), and where the time
goes, by kinds of layers, which TensorRT's profiler measures one by one. Not measured: copies to and from the host, and
accuracy, which build-engines certifies.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import shape_inference

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.families.family import AS_BUILT, Family, PlanSpec
from musetalk_engines.trt.families.registry import family_of
from musetalk_engines.trt.machine import load_plan, require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import Profile, engine_profiles
from musetalk_engines.trt.source import write_source
from musetalk_engines.trt.timing_cache import TIMING_CACHE, TimingCache
from musetalk_runtime.backends.cuda.device import free_memory, open_device
from musetalk_runtime.backends.cuda.driver_calls import copy
from musetalk_runtime.backends.cuda.memory import DeviceMemory

RUNS, WARM_UP = 40, 5
KINDS = {"Reformatting": "layout", "ForeignNode": "fused by Myelin", "PWN": "pointwise", "Conv": "convolution"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modelset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--graphs", default="vae_decoder,unet")
    parser.add_argument("--levels", default="2")
    parser.add_argument("--batch-sizes", default="1,4")
    parser.add_argument("--apart", action="store_true", help="also an engine for each batch size")
    parser.add_argument("--ceiling", type=float, help="TFLOP/s")
    args = parser.parse_args()
    facts, models = require_gpu(), ModelSet.open(args.modelset)
    family = family_of(str(facts.tensorrt))
    sizes = tuple(int(size) for size in args.batch_sizes.split(","))
    rows: list[dict[str, Any]] = []
    for graph in args.graphs.split(","):
        gflop = flops(models, graph) / 1e9
        for level in (int(text) for text in args.levels.split(",")):
            options = BuildOptions(sizes, level=level)
            family.check_precision(models, options.precision)
            groups = [engine_profiles(models.spec, graph, sizes)]
            groups += [[profile] for profile in groups[0]] if args.apart else []
            for profiles in groups:
                spec = PlanSpec(graph, options.precision, AS_BUILT)
                rows.append(measure(family, models, spec, profiles, options, gflop, args.ceiling))
                print(json.dumps(rows[-1]), flush=True)
                result = {"built_on": facts.identity("tensorrt"), "ceiling_tflops": args.ceiling, "plans": rows}
                args.output.write_text(json.dumps(result, indent=1) + "\n")  # after each: it takes minutes


def measure(
    family: Family,
    models: ModelSet,
    spec: PlanSpec,
    profiles: list[Profile],
    options: BuildOptions,
    gflop: float,
    ceiling: float | None,
) -> dict[str, Any]:
    """Build one plan from scratch, and run each of its profiles."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        file = build_plan(family, models, spec, profiles, options, Path(scratch))
        seconds = time.perf_counter() - start
        free, _ = free_memory()
        with load_plan(file) as plan:
            batches = {}
            for number, shapes in enumerate(profiles):
                size = next(iter(shapes.values()))[0]
                ms, kinds = run(plan, number)
                reached = gflop * size / ms
                share = {"of_ceiling": round(reached / ceiling, 3)} if ceiling else {}
                batches[size] = {"ms": round(ms, 3), "tflops": round(reached, 1), **share, "ms_by_layers": kinds}
            memory = free - free_memory()[0]
        return {
            "graph": spec.graph,
            "level": options.level,
            "gflop_a_frame": round(gflop, 1),
            "build_seconds": round(seconds, 1),
            "bytes": file.stat().st_size,
            "gpu_memory_bytes": memory,
            "batches": batches,
        }


def build_plan(
    family: Family, models: ModelSet, spec: PlanSpec, profiles: list[Profile], options: BuildOptions, folder: Path
) -> Path:
    source = write_source(family, models, spec, folder)
    file, cache = folder / f"{spec.graph}.plan", TimingCache(folder / TIMING_CACHE, [])
    build_engine(family, spec, source, file, profiles, options, cache, lambda _: None)
    return file


def layer_profiler(ms: dict[str, list[float]]) -> Any:
    """Adds the milliseconds of each layer to `ms`."""
    import tensorrt as trt

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, name: str, layer_ms: float) -> None:
            """Called by TensorRT."""
            ms.setdefault(name, []).append(layer_ms)

    return Profiler()


def run(plan: Any, profile: int) -> tuple[float, dict[str, float]]:
    """Milliseconds of a run on the GPU, on random data; and of its layers, by kind."""
    device = open_device()
    stream, random = device.create_stream(), np.random.default_rng(0)
    memory = DeviceMemory(device, plan.memory_size(profile))
    context = plan.context(profile, memory, stream)
    kept = [memory]
    for name in (*plan.inputs, *plan.outputs):
        data = random.standard_normal(context.shape(name)).astype(plan.dtype(name))
        kept.append(DeviceMemory(device, data.nbytes))
        copy(kept[-1].address, data.ctypes.data, data.nbytes, stream)
        stream.sync()
        context.set_address(name, kept[-1].address)
    for _ in range(WARM_UP):
        context.enqueue(int(stream.handle))
    begin, end = (device.create_event({"timing_enabled": True}) for _ in range(2))
    stream.record(begin)
    for _ in range(RUNS):
        context.enqueue(int(stream.handle))
    stream.record(end)
    end.sync()
    kinds = by_kind(context, stream)
    context.close()
    for buffer in kept:
        buffer.close()
    return (end - begin) / RUNS, kinds


def by_kind(context: Any, stream: Any) -> dict[str, float]:
    layers: dict[str, list[float]] = {}
    context._context.profiler = layer_profiler(layers)  # the runtime has no use for it
    for _ in range(WARM_UP):
        context.enqueue(int(stream.handle))
        stream.sync()
    kinds: dict[str, float] = defaultdict(float)
    for name, times in layers.items():
        kinds[next((kind for word, kind in KINDS.items() if word in name), "other")] += float(np.median(times))
    return {kind: round(ms, 3) for kind, ms in sorted(kinds.items(), key=lambda kind: -kind[1])}


def flops(models: ModelSet, graph: str) -> float:
    """Multiplications and additions of convolutions and matrix products for one frame, of the graph as exported."""
    model = onnx.load(models.graph(graph), load_external_data=False)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(model).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0.0
    for node in inferred.node:
        if node.op_type == "Conv":
            total += 2.0 * np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:])
        elif node.op_type == "MatMul":
            total += 2.0 * np.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


if __name__ == "__main__":
    main()
