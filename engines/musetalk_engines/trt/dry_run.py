"""The dry run of a build: what it would do, as text."""

from pathlib import Path

from musetalk_engines.bundle import open_models
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.build import cache_seeds
from musetalk_engines.trt.families.family import Family
from musetalk_engines.trt.families.registry import family_for, family_of
from musetalk_engines.trt.machine import require_gpu
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.timing_cache import TIMING_CACHE
from musetalk_runtime.backends.cuda.kernels import COMPOSE_CUBIN
from musetalk_runtime.certification.check import ORDER
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.storage.folder import MANIFEST


def dry_run(modelset: Path, output: Path, options: BuildOptions, face_model: Path | None) -> str:
    """The plan of work; raises what a build would raise before it begins, but for a missing GPU or TensorRT."""
    models = open_models(modelset, output, face_model)
    machine, family = _machine(models, options)
    family.check_precision(models, options.precision)
    cache = next((str(seed) for seed in cache_seeds(output, options) if seed.is_file()), "empty")
    memory = f"{options.max_memory} MiB" if options.max_memory else "as much as there is"
    lines = [
        f"model set     {modelset}, {models.precision}",
        f"machine       {machine}",
        f"precision     {options.precision}",
        f"level         {options.level}",
        f"workspace     {memory}",
        f"timing cache  {cache}",
    ]
    if options.version_compatible:
        lines.append("compatible    with later TensorRTs")
    variants = " > ".join(family.fallbacks(options.precision))
    for graph in ORDER:
        lines += ["", f"{graph}: {graph}.onnx -> {graph}.plan", f"  variants  {variants}"]
        for shapes in engine_profiles(models.spec, graph, options.batch_sizes):
            lines.append("  profile   " + ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()))
    files = [*(f"{graph}.plan" for graph in ORDER), COMPOSE_CUBIN, TIMING_CACHE, MANIFEST]
    return "\n".join([*lines, "", f"{output}: {', '.join(files)}", "dry run: nothing was built"])


def _machine(models: ModelSet, options: BuildOptions) -> tuple[str, Family]:
    """The machine in words, and its TensorRT's family; without one, a family that takes this model set."""
    try:
        facts = require_gpu()
    except MachineError:
        family = family_for(models, options.precision)
        return f"no GPU with a TensorRT that knows it: as for {family.versions}", family
    name = f"{facts.name}, compute capability {facts.compute_capability}, driver {facts.driver}"
    return f"{name}, TensorRT {facts.tensorrt}", family_of(str(facts.tensorrt))
