"""A module as an ONNX file: opset 17, standard operators, constants folded, weights in one file beside it."""

import gc
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from musetalk_export.graphs.fold import fold
from musetalk_export.graphs.half import to_half

OPSET = 17
MAX_INLINE_BYTES = 1024  # of a tensor that stays in the ONNX file itself
BATCH = {0: "N"}  # names of the axes that vary, where no other are given
DYNAMIC = {"mel": {0: "N", 2: "T"}, "states": {0: "N", 1: "steps"}}


def write_graph(
    module: nn.Module, inputs: dict[str, Tensor], outputs: dict[str, Tensor], file: Path, *, half: bool = False
) -> None:
    """Write `module` to `file` (``NAME.onnx``) and its weights to ``NAME.onnx.data``, as FP32 or as FP16.

    `inputs` and `outputs` are examples by name, in the order of ``module.forward``; the first axis becomes the dynamic
    batch ``N``, and the mel's last one ``T``; all others are fixed. An FP16 graph has FP16 inputs, outputs and
    weights; ``half`` says what stays FP32.
    """
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        raw = Path(scratch) / file.name
        _trace(module, inputs, list(outputs), raw)
        model = fold(onnx.load(raw))
        gc.collect()  # graphsurgeon's graph of the raw one, which holds itself and gigabytes of weights
        for value in model.graph.output:
            _set_shape(value, outputs[value.name])
        if half:
            _save(model, raw)
            del model
            model = to_half(raw)
    _check_operators(model)
    _save(model, file)
    onnx.checker.check_model(str(file))


def _trace(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], file: Path) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        # The tracing exporter is the one whose opset 17 TensorRT 8.6 takes; torch deprecates it.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Sizes are turned into integers on purpose: see norm.static.
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # What it does not fold, the padding of the VAE encoder, is folded after it: see fold.
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: DYNAMIC.get(name, BATCH) for name in (*inputs, *outputs)},
        )


def _check_operators(model: onnx.ModelProto) -> None:
    """Nothing that an engine would need a plugin for: this is the exporter's fault, not the checkpoint's."""
    for node in model.graph.node:
        if node.domain or node.op_type == "InstanceNormalization":
            raise RuntimeError(f"{node.name} is a {node.domain}:{node.op_type}: no standard operator for TensorRT 8.6")


def _set_shape(value: onnx.ValueInfoProto, example: Tensor) -> None:
    """Say all sizes of an output: the exporter loses track of them at a Reshape."""
    dynamic = DYNAMIC.get(value.name, BATCH)
    for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
        if axis not in dynamic:
            dimension.dim_value = example.shape[axis]


def _save(model: onnx.ModelProto, file: Path) -> None:
    data = file.with_name(f"{file.name}.data")
    data.unlink(missing_ok=True)
    onnx.save_model(
        model,
        file,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=data.name,
        size_threshold=MAX_INLINE_BYTES,
    )
    data.chmod(0o644)  # onnx makes it private
