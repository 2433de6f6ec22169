"""The ONNX file that a plan is parsed from."""

import gc
from pathlib import Path

import onnx

from musetalk_engines.graph_file import save_graph
from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.family import Family, PlanSpec


def write_source(family: Family, models: ModelSet, spec: PlanSpec, folder: Path) -> Path:
    """The model set's own file where it will do, else one written to `folder`, with the weights beside it."""
    file = models.graph(spec.graph)
    rewrite = family.rewriting(spec, models)
    if rewrite is None:
        return file
    target = folder / f"{spec.graph}.source.onnx"
    save_graph(rewrite(onnx.load(file)), target)
    gc.collect()  # graphsurgeon's graph and its weights, which would lie in memory while TensorRT builds
    return target


def discard_source(file: Path, folder: Path) -> None:
    """Delete what `write_source` wrote to `folder`; a model set's own file lies elsewhere, and stays."""
    if file.parent == folder:
        file.unlink()
        file.with_name(f"{file.name}.data").unlink(missing_ok=True)
