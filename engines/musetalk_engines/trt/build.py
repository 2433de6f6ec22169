"""The build of a TensorRT bundle from a model set.

TensorRT's own Python API does it. Polygraphy was looked at: it would build as well, but runs plans by a runner of its
own, and what is certified here is a plan as the runtime loads and runs it.
"""

from pathlib import Path

from musetalk_engines.bundle import BuildReport, Progress, new_bundle, open_models
from musetalk_engines.kernel import compile_kernel
from musetalk_engines.trt.certified_plan import CertifiedPlan
from musetalk_engines.trt.families.registry import family_of
from musetalk_engines.trt.machine import require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.plan_builder import PlanBuilder
from musetalk_engines.trt.plan_folder import PlanFolder
from musetalk_engines.trt.profiles import profiled_contexts
from musetalk_engines.trt.timing_cache import TIMING_CACHE, TimingCache
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN, COMPOSE_SOURCE
from musetalk_runtime.certification.check import ORDER
from musetalk_runtime.certification.measure import affordable_context
from musetalk_runtime.core.errors import InputNotFound
from musetalk_runtime.core.model import ModelSpec


def build_tensorrt_bundle(
    modelset: Path, output: Path, options: BuildOptions, face_model: Path | None, progress: Progress
) -> BuildReport:
    """Build, certify and measure the plans of `modelset` for this machine's GPU into the folder `output`.

    Raises MachineError where there is no GPU or no TensorRT or it cannot build a plan; InputNotFound, InvalidFolder
    or InvalidArgument for what was given; AccuracyError if a graph fails in every variant. Then `output` is as it
    was, and what was certified lies in a hidden folder beside it, from which the next run goes on.
    """
    facts = require_gpu()
    models = open_models(modelset, output, face_model)
    family = family_of(str(facts.tensorrt))
    family.check_precision(models, options.precision)
    seeds = cache_seeds(output, options)
    with PlanFolder(output) as work:
        kernel = work.path / COMPOSE_CUBIN
        compile_kernel(COMPOSE_SOURCE, facts.arch, kernel)
        cache = TimingCache(work.path / TIMING_CACHE, seeds)
        builder = PlanBuilder(models, options, facts.identity("tensorrt"), family, work, cache, progress)
        plans = {graph: builder.certified_plan(graph) for graph in ORDER}
        batch_ms, audio_ms = _batch_ms(plans, options), _audio_ms(plans, models.spec)
        live_context = affordable_context(audio_ms)
        with new_bundle(models, output, face_model, "tensorrt") as (folder, manifest):
            for graph in plans:
                work.link_into(folder, work.plan_file(graph))
            for file in (kernel, cache.file):
                if file.exists():  # no cache, where every plan was kept
                    work.link_into(folder, file)
            manifest.update(
                precision=options.precision,
                engines={graph: plan.to_json() for graph, plan in plans.items()},
                batch_ms=batch_ms,
                live_context_seconds=live_context,
                audio_encoder_ms=audio_ms,
                optimization_level=options.level,
                version_compatible=options.version_compatible,
                built_on=builder.built_on,
            )
        work.remove()
    return BuildReport([row for plan in plans.values() for row in plan.certified], batch_ms, live_context)


def cache_seeds(output: Path, options: BuildOptions) -> list[Path]:
    """Timing caches to start from: the one that was named, and an older bundle's. Raises InputNotFound."""
    if options.timing_cache and not options.timing_cache.is_file():
        raise InputNotFound(f"{options.timing_cache}: no such timing cache")
    return [*([options.timing_cache] if options.timing_cache else []), output / TIMING_CACHE]


def _batch_ms(plans: dict[str, CertifiedPlan], options: BuildOptions) -> dict[int, float]:
    """UNet and decoder, one after the other, by batch size."""
    times = zip(options.batch_sizes, plans["unet"].ms, plans["vae_decoder"].ms, strict=True)
    return {size: round(unet + decoder, 3) for size, unet, decoder in times}


def _audio_ms(plans: dict[str, CertifiedPlan], spec: ModelSpec) -> dict[float, float]:
    """The audio encoder, by seconds of speech."""
    return dict(zip(profiled_contexts(spec), plans["audio_encoder"].ms, strict=True))
