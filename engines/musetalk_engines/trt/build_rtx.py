"""The build of a bundle for TensorRT for RTX, which needs no GPU: it is certified where it runs."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from musetalk_engines.bundle import Progress, new_bundle, open_models
from musetalk_engines.kernel import compile_kernel
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.certify import golden_tensors
from musetalk_engines.trt.engine import build_engine
from musetalk_engines.trt.families.family import AS_BUILT, PlanSpec
from musetalk_engines.trt.families.rtx import ForRtx, require_rtx
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.source import discard_source, write_source
from musetalk_runtime.backends.cuda.kernels import COMPOSE_SOURCE, compose_cubin
from musetalk_runtime.certification.check import ORDER
from musetalk_runtime.certification.golden import GOLDEN


def build_rtx_bundle(
    modelset: Path, output: Path, options: BuildOptions, face_model: Path | None, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Build the plans of `modelset` for the GPUs that `options` target into the folder `output`; gives them by graph.

    The bundle holds the golden tensors, by which ``musetalk-edge certify`` judges each plan on the device, and the
    graphs, of which it builds a safer plan where one is off. Raises MachineError without TensorRT for RTX or without a
    CUDA compiler, PlanError where a graph cannot be built; InputNotFound, InvalidFolder or InvalidArgument for what was
    given. Then `output` is as it was.
    """
    family = ForRtx()
    require_rtx(options.targets)
    models = open_models(modelset, output, face_model)
    family.check_precision(models, options.precision)
    with new_bundle(models, output, face_model, "tensorrt-rtx") as (folder, manifest):
        for target in options.targets:
            compile_kernel(COMPOSE_SOURCE, target, folder / compose_cubin(target))
        engines = {graph: build_rtx_plan(models, graph, folder, options, progress) for graph in ORDER}
        copy_models(models, folder, options)
        manifest.update(
            precision=options.precision,
            graph_precision=models.precision,
            engines=engines,
            variants=family.fallbacks(options.precision),
            batch_sizes=options.batch_sizes,
            built_for=options.targets,
            built_by={"tensorrt_rtx": str(family.tensorrt.__version__)},
        )
    return engines


def build_rtx_plan(
    models: ModelSet, graph: str, folder: Path, options: BuildOptions, progress: Progress, variant: str = AS_BUILT
) -> dict[str, Any]:
    """Write ``<graph>.plan`` to `folder`; gives what the manifest says about it. Raises PlanError or InvalidFolder."""
    family, spec, file = ForRtx(), PlanSpec(graph, options.precision, variant), folder / f"{graph}.plan"
    profiles = engine_profiles(models.spec, graph, options.batch_sizes)
    start = time.perf_counter()
    source = write_source(family, models, spec, folder)
    tensors = build_engine(family, spec, source, file, profiles, options, None, progress)
    discard_source(source, folder)
    seconds, size = round(time.perf_counter() - start, 1), file.stat().st_size
    progress(f"built {graph}: {variant}, {size / 1e6:.0f} MB, in {seconds:.0f} s")
    return {
        "file": file.name,
        "variant": variant,
        "profiles": profiles,
        "tensors": tensors,
        "build_seconds": seconds,
        "bytes": size,
    }


def copy_models(models: ModelSet, folder: Path, options: BuildOptions) -> None:
    """Put the graphs of `models` into `folder`, and all golden tensors that certification at each profile needs."""
    for name in models.manifest["files"]:
        if ".onnx" in name:
            shutil.copyfile(models.path / name, folder / name)
    profiles = engine_profiles(models.spec, "audio_encoder", options.batch_sizes)
    golden = golden_tensors(models, "audio_encoder", profiles)
    np.savez(folder / GOLDEN, **{name: golden[name] for name in golden})  # type: ignore[arg-type]  # of any name
