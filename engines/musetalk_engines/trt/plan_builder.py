"""The builder of a bundle's plans, which builds, certifies and measures one after the other."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.certified_plan import CertifiedPlan
from musetalk_engines.trt.certify import certify
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.families.family import Family, PlanSpec
from musetalk_engines.trt.machine import load_plan
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.plan_folder import PlanFolder
from musetalk_engines.trt.profiles import Profile, engine_profiles
from musetalk_engines.trt.source import discard_source, write_source
from musetalk_engines.trt.timing_cache import TimingCache
from musetalk_runtime.certification.check import RunnablePlan
from musetalk_runtime.certification.fallbacks import first_passing
from musetalk_runtime.certification.golden import GOLDEN
from musetalk_runtime.certification.measure import plan_ms
from musetalk_runtime.core.version import __version__
from musetalk_runtime.storage.folder import sha256


@dataclass(frozen=True)
class PlanBuilder:
    """Builds the plans of one bundle in ``work``; ``built_on`` is the machine, as the manifest says it."""

    models: ModelSet
    options: BuildOptions
    built_on: dict[str, Any]
    family: Family
    work: PlanFolder
    cache: TimingCache
    progress: Callable[[str], None]

    def certified_plan(self, graph: str) -> CertifiedPlan:
        """The certified plan of `graph`: taken over from an interrupted run, or built.

        Raises AccuracyError if no variant passes, InvalidFolder or MachineError if TensorRT cannot build it.
        """
        profiles = engine_profiles(self.models.spec, graph, self.options.batch_sizes)
        decoder = self.work.plan_file("vae_decoder") if graph == "unet" else None
        inputs = plan_ingredients(self.models, graph, self.options, profiles, self.built_on, decoder)
        plan, kept = self.work.take_or_build(graph, inputs, lambda: self._build(graph, profiles))
        worst = max(plan.certified, key=lambda row: row.relative_error / row.bound)
        self.progress(
            f"{'kept' if kept else 'certified'} {graph}: {plan.variant}, {worst.output} off by "
            f"{worst.relative_error:.1e}, {plan.bytes / 1e6:.0f} MB, built in {plan.build_seconds:.0f} s"
        )
        return plan

    def _build(self, graph: str, profiles: list[Profile]) -> CertifiedPlan:
        """The first variant that passes."""
        variants = self.family.fallbacks(self.options.precision)
        return first_passing(graph, variants, lambda variant: self._attempt(graph, variant, profiles), self.progress)

    def _attempt(self, graph: str, variant: str, profiles: list[Profile]) -> CertifiedPlan:
        """Build and certify one variant; it is measured if it passes."""
        spec = PlanSpec(graph, self.options.precision, variant)
        start, file = time.perf_counter(), self.work.plan_file(graph)
        source = write_source(self.family, self.models, spec, self.work.path)
        build_engine(self.family, spec, source, file, profiles, self.options, self.cache, self.progress)
        seconds = time.perf_counter() - start
        discard_source(source, self.work.path)
        self.progress(f"certifying {graph}")
        with ExitStack() as stack:
            plan: RunnablePlan = stack.enter_context(load_plan(file))
            decoder: RunnablePlan | None = None
            if graph == "unet":
                decoder = stack.enter_context(load_plan(self.work.plan_file("vae_decoder")))
            rows = certify(self.models, graph, plan, profiles, self.options.precision, decoder)
            passed = all(row.passed for row in rows)
            ms = plan_ms(plan, profiles, self.options.precision) if passed else []
        size = file.stat().st_size
        return CertifiedPlan(graph, file.name, profiles, variant, rows, ms, round(seconds, 1), size, sha256(file))


def plan_ingredients(
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
