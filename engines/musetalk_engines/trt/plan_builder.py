"""The plans of one bundle: built, certified, measured, one after the other."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_engines.measure import median_ms
from musetalk_engines.modelset import GOLDEN, ModelSet
from musetalk_engines.trt.certify import RunsPlan, certify
from musetalk_engines.trt.fallbacks import climb
from musetalk_engines.trt.machine import load_plan
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import Profile, engine_profiles
from musetalk_engines.trt.source import discard_source, write_source
from musetalk_engines.trt.timing_cache import TimingCache
from musetalk_engines.trt.variant import ladder
from musetalk_engines.trt.work import Engine, WorkFolder
from musetalk_runtime import __version__
from musetalk_runtime.storage.folder import sha256

# The decoder comes first: the UNet is judged by the faces that the decoder makes of its prediction, too.
BUILD_ORDER = ("vae_decoder", "unet", "vae_encoder", "audio_encoder")


@dataclass(frozen=True)
class Job:
    """What all plans of one bundle have in common; ``built_on`` is the machine, as the manifest says it."""

    models: ModelSet
    options: BuildOptions
    built_on: dict[str, Any]
    strongly_typed: bool
    work: WorkFolder
    cache: TimingCache
    progress: Callable[[str], None]

    def engine(self, graph: str) -> Engine:
        """The certified plan of `graph`: taken over from an interrupted run, or built.

        Raises AccuracyError if no variant passes, InvalidFolder or MachineError if TensorRT cannot build it.
        """
        profiles = engine_profiles(self.models.spec, graph, self.options.batch_sizes)
        decoder = self.work.plan("vae_decoder") if graph == "unet" else None
        key = ingredients(self.models, graph, self.options, profiles, self.built_on, decoder)
        variants = ladder(self.options.precision, strongly_typed=self.strongly_typed)
        engine, kept = self.work.engine(
            graph,
            key,
            lambda: climb(graph, variants, lambda variant: self._attempt(graph, variant, profiles), self.progress),
        )
        worst = max(engine.certified, key=lambda row: row.relative_error / row.bound)
        self.progress(
            f"{'kept' if kept else 'certified'} {graph}: {engine.variant}, {worst.output} off by "
            f"{worst.relative_error:.1e}, {engine.bytes / 1e6:.0f} MB, built in {engine.build_seconds:.0f} s"
        )
        return engine

    def _attempt(self, graph: str, variant: str, profiles: list[Profile]) -> Engine:
        """Build one variant and judge it; it is measured if it passes."""
        from musetalk_engines.trt.engine import build_engine

        start, file = time.perf_counter(), self.work.plan(graph)
        source = write_source(
            self.models, graph, self.work.path,
            precision=self.options.precision, variant=variant, strongly_typed=self.strongly_typed,
        )  # fmt: skip
        build_engine(source, file, profiles, variant, self.options, self.cache, self.progress)
        seconds = time.perf_counter() - start
        discard_source(source, self.work.path)
        self.progress(f"certifying {graph}")
        with ExitStack() as stack:
            plan: RunsPlan = stack.enter_context(load_plan(file))
            decoder: RunsPlan | None = None
            if graph == "unet":
                decoder = stack.enter_context(load_plan(self.work.plan("vae_decoder")))
            rows = certify(self.models, graph, plan, profiles, self.options.precision, decoder)
            passed = all(row.passed for row in rows)
            ms = plan_ms(plan, profiles, self.options.precision) if passed else []
        size = file.stat().st_size
        return Engine(graph, file.name, profiles, variant, rows, ms, round(seconds, 1), size, sha256(file))


def plan_ms(plan: RunsPlan, profiles: list[Profile], precision: str) -> list[float]:
    """Median milliseconds of a run at each profile, from arrays on the host to arrays on the host."""
    random = np.random.default_rng(0)  # a GPU is quicker at zeros
    kind = np.float16 if precision == "fp16" else np.float32
    times: list[float] = []
    for index, shapes in enumerate(profiles):
        inputs = {name: random.standard_normal(shape).astype(kind) for name, shape in shapes.items()}
        times.append(median_ms(lambda index=index, inputs=inputs: plan.run(index, inputs)))  # type: ignore[misc]
    return times


def ingredients(
    models: ModelSet,
    graph: str,
    options: BuildOptions,
    profiles: list[Profile],
    built_on: dict[str, Any],
    decoder: Path | None,
) -> dict[str, Any]:
    """Everything that a certified plan comes from; `decoder` is the plan that it was judged with."""
    files = {name: entry["sha256"] for name, entry in models.manifest["files"].items()}
    return {
        "musetalk-edge": __version__,
        "graph": graph,
        "files": {name: files[name] for name in (f"{graph}.onnx", f"{graph}.onnx.data", GOLDEN) if name in files},
        "profiles": profiles,
        "precision": options.precision,
        "level": options.level,
        "max_memory": options.max_memory,
        "version_compatible": options.version_compatible,
        "built_on": built_on,
        "decoder": sha256(decoder) if decoder else None,
    }
