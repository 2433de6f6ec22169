"""Graphs rewritten for TensorRT 8.6 compute the same, by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.family import AS_BUILT, FP32, FP32_ATTENTION, UNFUSED_ATTENTION, Family, PlanSpec
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.families.weakly_typed import WeaklyTyped
from musetalk_engines.trt.graph.optimize import optimize_graph, split_residuals
from musetalk_engines.trt.graph.pooled_norm import pool_norms
from musetalk_engines.trt.graph.precision import to_float
from musetalk_engines.trt.graph.upsampling import fold_upsampling
from musetalk_engines.trt.source import write_source

DONE = {
    "unet": {"upsampling": 2, "norms": 0, "residuals": 9},
    "vae_decoder": {"upsampling": 3, "norms": 9, "residuals": 10},  # the other norms have fewer than 64 pixels a side
}


Done = TypeVar("Done")


def rewrite(model: ModelProto, step: Callable[[gs.Graph], Done]) -> tuple[ModelProto, Done]:
    """`model` after a step of the rewriting, sorted and without what nothing reads, and what the step returned."""
    graph = gs.import_onnx(model)
    done = step(graph)
    return gs.export_onnx(graph.cleanup().toposort()), done


def run(model: ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # others would spin
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, inputs)[0]
    return found


def graph_model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], channels: int) -> ModelProto:
    """`x` [N, channels, H, W] to `y`, FP32."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "C", "P", "Q"])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("graph", DONE)
def test_a_rewritten_model_computes_its_golden_outputs(modelset: Path, graph: str) -> None:
    models = ModelSet.open(modelset)
    model, golden = onnx.load(models.graph(graph)), models.golden()
    weights = {tensor.name for tensor in model.graph.initializer}
    optimized = gs.import_onnx(model)
    assert optimize_graph(optimized) == DONE[graph]
    model = gs.export_onnx(optimized)
    assert not {"Resize"} & {node.op_type for node in model.graph.node}
    assert len({output for node in model.graph.node for output in node.output}) == len(model.graph.node)
    assert {tensor.name for tensor in model.graph.initializer} <= {n for node in model.graph.node for n in node.input}
    assert weights - {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: golden[f"{graph}.{value.name}"] for value in model.graph.input}
    expected = golden[f"{graph}.{model.graph.output[0].name}"]
    assert np.linalg.norm(run(model, inputs) - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("graph", DONE)
def test_a_model_exported_in_fp16_is_rewritten_as_one_in_fp32(half_modelset: Path, graph: str) -> None:
    """Its norms lie between Cast nodes, which change nothing once all is FP32."""
    model = to_float(onnx.load(ModelSet.open(half_modelset).graph(graph)), half_io=False)
    assert not {"Cast"} & {node.op_type for node in model.graph.node}
    assert optimize_graph(gs.import_onnx(model)) == DONE[graph]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (8, 8)])
def test_upsampling_is_folded_exactly_at_every_edge(height: int, width: int) -> None:
    random = np.random.default_rng(0)
    weights = random.integers(-8, 8, (5, 3, 3, 3)).astype(np.float32)  # integers: sums are exact in any order
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "w": weights, "b": np.arange(5, dtype=np.float32)}
    resize = helper.make_node(
        "Resize", ["x", "", "scales"], ["up"], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    convolution = helper.make_node("Conv", ["up", "w", "b"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    model = graph_model([resize, convolution], constants, 3)
    x = random.integers(-8, 8, (2, 3, height, width)).astype(np.float32)
    expected = run(model, {"x": x})
    model, folded = rewrite(model, fold_upsampling)
    assert folded == 1
    assert [node.op_type for node in model.graph.node] == ["ConvTranspose"]
    assert np.array_equal(run(model, {"x": x}), expected)


def group_norm(channels: int, groups: int, side: int) -> ModelProto:
    random = np.random.default_rng(1)
    row = channels // groups * side * side
    constants = {
        "rows": np.array([0, groups, -1]), "ones": np.ones(row, np.float32), "zeros": np.zeros(row, np.float32),
        "picture": np.array([0, channels, side, side]),
        "gamma": random.normal(1, 0.5, (channels, 1, 1)).astype(np.float32),
        "beta": random.normal(0, 0.5, (channels, 1, 1)).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["r"]),
        helper.make_node("LayerNormalization", ["r", "ones", "zeros"], ["n"], name="norm", axis=-1, epsilon=1e-6),
        helper.make_node("Reshape", ["n", "picture"], ["p"]),
        helper.make_node("Mul", ["p", "gamma"], ["m"]),
        helper.make_node("Add", ["m", "beta"], ["y"]),
    ]
    return graph_model(nodes, constants, channels)


@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_pooled_norms_are_group_norms(mean: float) -> None:
    model = group_norm(12, 4, 64)
    x = np.random.default_rng(2).normal(mean, 2, (2, 12, 64, 64)).astype(np.float32)
    expected = run(model, {"x": x})
    model, pooled = rewrite(model, pool_norms)
    assert pooled == 1
    assert "LayerNormalization" not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(run(model, {"x": x}), expected, atol=1e-4)


def test_a_flat_group_gives_its_shift_and_no_infinity() -> None:
    model = group_norm(8, 4, 64)
    model, pooled = rewrite(model, pool_norms)
    assert pooled == 1
    found = run(model, {"x": np.full((1, 8, 64, 64), 0.1, np.float32)})
    beta = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "norm/beta")
    np.testing.assert_allclose(found, np.broadcast_to(beta.reshape(1, 8, 1, 1), found.shape), atol=1e-2)


def test_norms_of_small_pictures_stay() -> None:
    model, pooled = rewrite(group_norm(8, 4, 32), pool_norms)
    assert pooled == 0
    assert len(model.graph.node) == 5


@pytest.mark.parametrize("name", ["ones", "zeros"])
def test_norms_whose_rows_are_scaled_or_shifted_stay(name: str) -> None:
    model = group_norm(8, 4, 64)
    rows = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    rows.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(rows) + np.float32(0.5), name))
    assert rewrite(model, pool_norms)[1] == 0


def test_a_residual_leaves_who_shares_its_weights_alone() -> None:
    random = np.random.default_rng(3)
    constants = {"w": random.normal(size=(3, 3, 3, 3)).astype(np.float32), "b": np.ones(3, np.float32)}
    kept = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["first"], **kept),
        helper.make_node("Conv", ["first", "w", "b"], ["second"], **kept),
        helper.make_node("Add", ["first", "second"], ["y"]),
    ]
    model = graph_model(nodes, constants, 3)
    x = random.normal(size=(1, 3, 8, 8)).astype(np.float32)
    expected = run(model, {"x": x})
    model, split = rewrite(model, split_residuals)
    assert split == 1
    np.testing.assert_allclose(run(model, {"x": x}), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("graph", "variant", "family", "precision", "rewritten"),
    [
        ("vae_decoder", AS_BUILT, WeaklyTyped(), "fp16", True),
        ("unet", AS_BUILT, WeaklyTyped(), "fp16", False),
        ("vae_encoder", AS_BUILT, WeaklyTyped(), "fp16", False),
        ("vae_decoder", UNFUSED_ATTENTION, WeaklyTyped(), "fp16", False),
        ("vae_decoder", FP32_ATTENTION, WeaklyTyped(), "fp16", False),
        ("vae_decoder", FP32, WeaklyTyped(), "fp16", False),
        ("vae_decoder", AS_BUILT, StronglyTyped(), "fp32", False),
    ],
)
def test_only_the_first_variant_of_8_6_is_optimized(
    modelset: Path, tmp_path: Path, graph: str, variant: str, family: Family, precision: str, rewritten: bool
) -> None:
    models = ModelSet.open(modelset)
    source = write_source(family, models, PlanSpec(graph, precision, variant), tmp_path)
    assert (source != models.graph(graph)) == rewritten
    if rewritten:
        assert "Resize" not in {node.op_type for node in onnx.load(source).graph.node}
