"""Model set to bundle, for the GPU.

TensorRT's own Python API does it. Polygraphy was looked at: it would build as well, but runs plans by a runner of its
own, and what is certified here is a plan as the runtime loads and runs it.
"""

from pathlib import Path

from musetalk_engines.bundle import BuildReport, Progress, new_bundle, open_models
from musetalk_engines.kernel import COMPOSE_KERNEL, COMPOSE_SOURCE, compile_kernel
from musetalk_engines.measure import affordable_context
from musetalk_engines.trt.families.family import is_strongly_typed
from musetalk_engines.trt.machine import describe, require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.plan_builder import BUILD_ORDER, Job
from musetalk_engines.trt.profiles import contexts
from musetalk_engines.trt.source import check_precision
from musetalk_engines.trt.timing_cache import TIMING_CACHE, TimingCache
from musetalk_engines.trt.work import Engine, WorkFolder
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
    strongly_typed = is_strongly_typed(str(facts.tensorrt))
    check_precision(models, options.precision, strongly_typed=strongly_typed)
    seeds = cache_seeds(output, options)
    with WorkFolder(output) as work:
        kernel = work.path / COMPOSE_KERNEL
        compile_kernel(COMPOSE_SOURCE, facts.compute_capability, kernel)
        cache = TimingCache(work.path / TIMING_CACHE, seeds)
        job = Job(models, options, describe(facts), strongly_typed, work, cache, progress)
        engines = {graph: job.engine(graph) for graph in BUILD_ORDER}
        batch_ms, audio_ms = _batch_ms(engines, options), _audio_ms(engines, models.spec)
        live_context = affordable_context(audio_ms)
        with new_bundle(models, output, face_model, "tensorrt") as (folder, manifest):
            for engine in engines.values():
                work.lend(work.plan(engine.graph), folder)
            for file in (kernel, cache.file):
                if file.exists():  # no cache, where every plan was kept
                    work.lend(file, folder)
            manifest.update(
                precision=options.precision,
                engines={graph: engine.to_json() for graph, engine in engines.items()},
                batch_ms=batch_ms,
                live_context_seconds=live_context,
                audio_encoder_ms=audio_ms,
                optimization_level=options.level,
                version_compatible=options.version_compatible,
                built_on=job.built_on,
            )
        work.remove()
    return BuildReport([row for engine in engines.values() for row in engine.certified], batch_ms, live_context)


def cache_seeds(output: Path, options: BuildOptions) -> list[Path]:
    """Timing caches to start from: the one that was named, and an older bundle's. Raises InputNotFound."""
    if options.timing_cache and not options.timing_cache.is_file():
        raise InputNotFound(f"{options.timing_cache}: no such timing cache")
    return [*([options.timing_cache] if options.timing_cache else []), output / TIMING_CACHE]


def _batch_ms(engines: dict[str, Engine], options: BuildOptions) -> dict[int, float]:
    """UNet and decoder, one after the other, by batch size."""
    times = zip(options.batch_sizes, engines["unet"].ms, engines["vae_decoder"].ms, strict=True)
    return {size: round(unet + decoder, 3) for size, unet, decoder in times}


def _audio_ms(engines: dict[str, Engine], spec: ModelSpec) -> dict[float, float]:
    """The audio encoder, by seconds of speech."""
    return dict(zip(contexts(spec), engines["audio_encoder"].ms, strict=True))
