"""The ONNX file that a variant is parsed from."""

from pathlib import Path

import onnx

from musetalk_engines.graph_file import save_graph
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.graph.graph import attention_to_float, to_float
from musetalk_engines.trt.graph.optimize import quicken
from musetalk_engines.trt.variant import AS_BUILT, FLOAT, GUARDED
from musetalk_runtime.core.errors import InvalidArgument

QUICKENED = "vae_decoder"  # 85% of a frame's work; the UNet gains a fortieth, and takes minutes longer to build


def check_precision(models: ModelSet, precision: str, *, strongly_typed: bool) -> None:
    """Raise InvalidArgument where an FP16 plan cannot be made of `models`.

    TensorRT 10 and 11 type strongly, here on both: what is FP16 and what is not was decided and checked when the
    model set was exported, and an fp32 graph gives an FP32 plan, which nobody should get without asking.
    """
    if strongly_typed and precision == "fp16" and models.precision != "fp16":
        raise InvalidArgument(
            f"{models.path} is {models.precision}, and TensorRT 10 and later build what the graph says: export it with "
            "--fp16, or pass --precision fp32"
        )


def write_source(
    models: ModelSet, graph: str, folder: Path, *, precision: str, variant: str, strongly_typed: bool
) -> Path:
    """The model set's own file where it will do, else one written to `folder`, with the weights beside it.

    TensorRT 8.6 always gets FP32 types, and decides about FP16 itself. Its first rung of the decoder is written in a
    form that it is quicker at.
    """
    file = models.graph(graph)
    quicker = not strongly_typed and precision == "fp16" and variant == AS_BUILT and graph == QUICKENED
    if models.precision == "fp32" and not quicker:
        return file
    if strongly_typed and precision == "fp16" and variant not in {GUARDED, FLOAT}:
        return file
    model = onnx.load(file)
    if strongly_typed and variant == GUARDED:
        attention_to_float(model)
    elif models.precision == "fp16":
        to_float(model, half_io=strongly_typed and precision == "fp16")
    if quicker:
        quicken(model)
    target = folder / f"{graph}.source.onnx"
    save_graph(model, target)
    return target


def discard_source(file: Path, folder: Path) -> None:
    """Delete what `write_source` wrote to `folder`; a model set's own file lies elsewhere, and stays."""
    if file.parent == folder:
        file.unlink()
        file.with_name(f"{file.name}.data").unlink(missing_ok=True)
