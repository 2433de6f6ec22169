"""Certification of plans by a model set: its golden tensors, and those of shorter speech, which it does not hold."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.graph.precision import to_float
from musetalk_runtime.certification.check import CertifiedOutput, Profile, RunnablePlan, certify_plan, context_states
from musetalk_runtime.core.arrays import Array


def certify(
    models: ModelSet,
    graph: str,
    plan: RunnablePlan,
    profiles: Sequence[Profile],
    precision: str,
    decoder: RunnablePlan | None,
) -> list[CertifiedOutput]:
    """Run `plan` on the golden inputs of `models`, see ``certify_plan``; `precision` is that of its arithmetic."""
    fp32 = precision == models.precision == "fp32"
    return certify_plan(golden_tensors(models, graph, profiles), graph, plan, profiles, fp32, decoder)


def golden_tensors(models: ModelSet, graph: str, profiles: Sequence[Profile]) -> Mapping[str, Array]:
    """All that ``certify_plan`` needs for `graph` at `profiles`."""
    golden: Mapping[str, Array] = models.golden()
    if graph != "audio_encoder":
        return golden
    mel = golden["audio_encoder.mel"]
    lengths = {shapes["mel"][2] for shapes in profiles} - {mel.shape[2]}
    shorter = {context_states(frames): _states(models, mel[:, :, :frames]) for frames in lengths}
    return ChainMap(shorter, golden)  # type: ignore[arg-type]  # nothing is written to it


def _states(models: ModelSet, mel: Array) -> Array:
    """What the graph says in FP32, evaluated by onnx itself."""
    model = onnx.load(models.graph("audio_encoder"))
    to_float(model, half_io=False)
    evaluator: Any = ReferenceEvaluator(model)
    found: Array = evaluator.run(None, {"mel": mel})[0]
    return found
