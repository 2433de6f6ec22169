"""One ONNX graph to one TensorRT plan."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from musetalk_engines.trt.families.family import Family, PlanSpec, network_tensors
from musetalk_engines.trt.interruptible import run_interruptibly
from musetalk_engines.trt.options import BuildOptions
from musetalk_engines.trt.profiles import Profile
from musetalk_engines.trt.timing_cache import TimingCache
from musetalk_runtime.backends.cuda.device import open_device
from musetalk_runtime.core.errors import InvalidFolder, PlanError

KEPT_ERRORS = 20  # messages

Tensors = dict[str, dict[str, Any]]
"""Inputs and outputs by name: ``type``, such as HALF, and ``shape``, where -1 is the batch, or the length of speech."""


def build_engine(
    family: Family,
    spec: PlanSpec,
    source: Path,
    target: Path,
    profiles: Sequence[Profile],
    options: BuildOptions,
    cache: TimingCache | None,
    progress: Callable[[str], None],
) -> Tensors:
    """Write the plan `spec` of the ONNX file `source` for the shapes of `profiles`, in one engine, to `target`.

    `family` is that of the installed TensorRT; `cache` is for those that measure. Inputs and outputs have the precision
    of `spec` and lie in memory row by row; gives them as TensorRT has them. Raises InvalidFolder if TensorRT cannot
    parse the graph, PlanError if it cannot build it; then nothing is written.
    """
    trt = family.tensorrt
    errors: deque[str] = deque(maxlen=KEPT_ERRORS)
    log = _log(trt, errors, progress, verbose=options.verbose)
    builder = trt.Builder(log)
    network = builder.create_network(family.network_flags())
    parser = trt.OnnxParser(network, log)
    _parse(family, parser, source)
    config = builder.create_builder_config()
    family.configure(config, options)
    touched = family.constrain(network, config, spec, source)
    _set_formats(trt, network)
    for shapes in profiles:
        config.add_optimization_profile(_profile(builder, shapes))
    if cache:
        _load_cache(config, cache, progress)
    watched = family.watch(config, lambda text: progress(f"{spec.graph}: {text}"))
    progress(f"building {spec.graph}: {spec.variant}, {network.num_layers} layers, {touched} constrained")
    plan = run_interruptibly(
        partial(_build, family, builder, network, config, parser, log),
        lambda seconds: None if watched else progress(f"building {spec.graph}: {seconds:.0f} s"),
    )
    if plan is None:
        reason = errors[-1] if errors else "it gave no reason"
        raise PlanError(f"{family.product} {trt.__version__} cannot build {spec.graph} ({spec.variant}): {reason}")
    if cache:
        cache.write(memoryview(config.get_timing_cache().serialize()))
    target.write_bytes(memoryview(plan))
    return {tensor.name: _describe(tensor.dtype, tensor.shape) for tensor in network_tensors(network)}


def _build(family: Family, builder: Any, network: Any, config: Any, *_kept: Any) -> Any:
    """The serialised plan or None. `_kept` must live as long as this runs: the parser, for one, owns the weights."""
    if family.measures:
        open_device()  # TensorRT needs a current context in every thread that calls it
    return builder.build_serialized_network(network, config)


def _parse(family: Family, parser: Any, source: Path) -> None:
    """By path, so that the weights beside the file are found."""
    if not parser.parse_from_file(str(source)):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise InvalidFolder(f"{source}: {family.product} {family.tensorrt.__version__} cannot parse it: {errors}")


def _describe(kind: Any, shape: Any) -> dict[str, Any]:
    return {"type": kind.name, "shape": list(shape)}


def _set_formats(trt: Any, network: Any) -> None:
    for tensor in network_tensors(network):
        tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)


def _profile(builder: Any, shapes: Profile) -> Any:
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape, shape, shape)
    return profile


def _load_cache(config: Any, store: TimingCache, progress: Callable[[str], None]) -> None:
    content = store.read()
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        progress("the timing cache is of another GPU or TensorRT, or damaged: measuring anew")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _log(trt: Any, errors: deque[str], progress: Callable[[str], None], *, verbose: bool) -> Any:
    """Passes errors on, with `verbose` warnings and information too; keeps the last of them in `errors`."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, msg: str) -> None:
            """Called by TensorRT, from any of its threads."""
            serious = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
            if serious:
                errors.append(msg)
            if serious or (verbose and severity in (trt.ILogger.WARNING, trt.ILogger.INFO)):
                progress(f"TensorRT: {msg}")

    return Log()
