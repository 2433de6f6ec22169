"""Which is better on this GPU: batch sizes as profiles of one engine, or as engines of their own?

    PYTHONPATH=engines:runtime python scripts/gpu_profiles.py MODELSET OUT.json [--graphs vae_decoder,unet] [--level 2]

Builds both from scratch, each with its own timing cache, and writes JSON: build seconds, bytes of the plans, GPU memory
they take once each of them ran, and milliseconds by batch size. Plans are not certified here.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.dialect import is_strongly_typed
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.job import plan_ms
from musetalk_engines.trt.machine import describe, load_plan, require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import Profile, engine_profiles
from musetalk_engines.trt.source import check_precision, write_source
from musetalk_engines.trt.timing_cache import TIMING_CACHE, TimingCache
from musetalk_engines.trt.variant import AS_BUILT
from musetalk_runtime.gpu.device import free_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modelset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--graphs", default="vae_decoder,unet")
    parser.add_argument("--batch-sizes", default="1,4")
    parser.add_argument("--level", type=int, default=2)
    args = parser.parse_args()
    facts, models = require_gpu(), ModelSet.open(args.modelset)
    options = BuildOptions(tuple(int(size) for size in args.batch_sizes.split(",")), level=args.level)
    check_precision(models, options.precision, strongly_typed=is_strongly_typed(str(facts.tensorrt)))
    result: dict[str, Any] = {"built_on": describe(facts), "level": args.level, "graphs": {}}
    for graph in args.graphs.split(","):
        profiles = engine_profiles(models.spec, graph, options.batch_sizes)
        result["graphs"][graph] = {
            "one engine": measure(models, graph, [profiles], options),
            "engine a batch size": measure(models, graph, [[profile] for profile in profiles], options),
        }
        args.output.write_text(json.dumps(result, indent=1) + "\n")  # after each: it takes minutes
        print(json.dumps({graph: result["graphs"][graph]}), flush=True)


def measure(models: ModelSet, graph: str, engines: list[list[Profile]], options: BuildOptions) -> dict[str, Any]:
    """Build one plan for each list of profiles, hold all of them, run them."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        start = time.perf_counter()
        files = build_plans(models, graph, engines, options, folder)
        seconds = time.perf_counter() - start
        free, _ = free_memory()
        times: list[float] = []
        for file, profiles in zip(files, engines, strict=True):
            times += plan_ms(stack.enter_context(load_plan(file)), profiles, options.precision)
        return {
            "build_seconds": round(seconds, 1),
            "bytes": sum(file.stat().st_size for file in files),
            "gpu_memory_bytes": free - free_memory()[0],
            "ms": dict(zip(options.batch_sizes, times, strict=True)),
        }


def build_plans(
    models: ModelSet, graph: str, engines: list[list[Profile]], options: BuildOptions, folder: Path
) -> list[Path]:
    """One plan for each list of profiles, in `folder`."""
    typed = is_strongly_typed(str(require_gpu().tensorrt))
    source = write_source(models, graph, folder, precision=options.precision, variant=AS_BUILT, strongly_typed=typed)
    cache = TimingCache(folder / TIMING_CACHE, [])
    files = [folder / f"{graph}.{number}.plan" for number in range(len(engines))]
    for file, profiles in zip(files, engines, strict=True):
        build_engine(source, file, profiles, AS_BUILT, options, cache, lambda text: print(text, file=sys.stderr))
    return files


if __name__ == "__main__":
    main()
