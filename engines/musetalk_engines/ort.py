"""The engines of the ONNX Runtime backend: graphs that it optimised, and their certification."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime as ort

from musetalk_engines.bundle import Progress
from musetalk_engines.calibration import Calibration, real_frames
from musetalk_engines.generator import merge_generator
from musetalk_engines.graph_file import save_graph
from musetalk_engines.int8 import compare, quantise
from musetalk_engines.modelset import ModelSet
from musetalk_runtime.backends.ort.onnx_session import OnnxSession
from musetalk_runtime.backends.ort.provider import CPU, CUDA, import_onnxruntime
from musetalk_runtime.core.accuracy import Difference, difference
from musetalk_runtime.core.errors import InvalidArgument, MachineError

ENGINES = ("generator", "vae_encoder", "audio_encoder")

# FP32 engines, on a GPU without TF32, differ from PyTorch by the order of their sums alone. A face is rounded to 8
# bits on top: up to half a level of 255 each, 0.29 on average, of a picture of middling brightness.
MAX_RELATIVE_ERROR, MAX_FACES_ERROR = 1e-3, 1e-2


def check_precision(modelset: ModelSet) -> None:
    """Raise InvalidArgument for a model set that this backend does not take."""
    if modelset.precision != "fp32":
        raise InvalidArgument(
            f"{modelset.path} is {modelset.precision}: --backend onnxruntime takes fp32: export it without --fp16"
        )


def choose_provider(modelset: ModelSet, progress: Progress) -> str:
    """CUDA where a session really runs on it, else CPU."""
    if CUDA not in import_onnxruntime().get_available_providers():
        return CPU
    try:
        OnnxSession(modelset.graph("audio_encoder"), CUDA)
    except MachineError as error:
        progress(f"building for the CPU: {error}")
        return CPU
    return CUDA


def write_engine(modelset: ModelSet, name: str, folder: Path, provider: str) -> None:
    """Write ``<name>.onnx`` and ``<name>.onnx.data`` to `folder`: one of ENGINES, optimised.

    The fusions are those that hold on any CPU; layouts for this one are chosen when the engine is loaded, which
    costs some 10 ms, so that a bundle can be moved. CUDA has no kernels for some of what a CPU fuses, so all of its
    own are made when the engine is loaded.
    """
    level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if provider == CUDA:
        level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if name != "generator":
        _optimise(modelset.graph(name), folder / f"{name}.onnx", level)
        return
    merged = folder / "merged.onnx"
    save_graph(merge_generator(modelset), merged)
    _optimise(merged, folder / f"{name}.onnx", level)
    for file in (merged, merged.with_suffix(".onnx.data")):
        file.unlink(missing_ok=True)


def quantise_generator(modelset: ModelSet, folder: Path, calibration: Calibration) -> Difference:
    """Replace the generator in `folder` by one with convolutions in INT8, and say what its faces differ by."""
    audio_encoder = OnnxSession(folder / "audio_encoder.onnx")
    seen, others = real_frames(calibration, modelset, audio_encoder)
    with TemporaryDirectory(dir=folder) as work:
        merged, quantised, engine = (Path(work, name) for name in ("merged.onnx", "int8.onnx", "generator.onnx"))
        save_graph(merge_generator(modelset), merged)
        quantise(merged, quantised, seen)
        _optimise(quantised, engine, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
        row = compare(OnnxSession(engine), OnnxSession(folder / engine.name), others)
        for file in (engine, engine.with_suffix(".onnx.data")):
            file.replace(folder / file.name)
    return row


def certify(modelset: ModelSet, name: str, folder: Path, provider: str) -> list[Difference]:
    """Run the engine `name` in `folder` on the golden inputs and compare its outputs with the golden ones."""
    golden = modelset.golden()
    session = OnnxSession(folder / f"{name}.onnx", provider)
    if name == "generator":
        inputs = {"latents": golden["unet.latents"], "tokens": golden["unet.tokens"]}
        prediction, faces = session.run_all(["prediction", "faces"], **inputs)
        images = golden["chain.images"].transpose(0, 2, 3, 1) * 255
        return [
            difference(name, "prediction", prediction, golden["unet.prediction"], MAX_RELATIVE_ERROR),
            difference(name, "faces", faces, images, MAX_FACES_ERROR),
        ]
    source, output = {"vae_encoder": ("images", "latents"), "audio_encoder": ("mel", "states")}[name]
    found = session.run(output, **{source: golden[f"{name}.{source}"]})
    return [difference(name, output, found, golden[f"{name}.{output}"], MAX_RELATIVE_ERROR)]


def _optimise(source: Path, target: Path, level: ort.GraphOptimizationLevel) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(target)
    weights = f"{target.name}.data"
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
