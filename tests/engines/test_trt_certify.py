"""The graphs of every variant, certification and the fallbacks, with ONNX Runtime in the place of TensorRT."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.certify import certify
from musetalk_engines.trt.families.family import AS_BUILT, FP32, FP32_ATTENTION, UNFUSED_ATTENTION, PlanSpec
from musetalk_engines.trt.families.registry import family_for
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.families.weakly_typed import WeaklyTyped
from musetalk_engines.trt.graph.precision import attention_products
from musetalk_engines.trt.profiles import engine_profiles
from musetalk_engines.trt.source import discard_source, write_source
from musetalk_runtime.certification.check import BOUNDS, CertifiedOutput
from musetalk_runtime.certification.fallbacks import first_passing
from musetalk_runtime.core.errors import AccuracyError, InvalidArgument, MachineError, PlanError
from musetalk_runtime.core.model import GRAPHS


class OnnxPlan:
    """Runs an ONNX file as ``musetalk_runtime.backends.trt.plan.Plan`` runs a plan; notes the shapes it was given."""

    def __init__(self, file: Path, gain: float = 1.0) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1  # more would spin while they wait
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.gain = gain
        self.runs: list[tuple[int, list[tuple[int, ...]]]] = []

    @property
    def types(self) -> set[str]:
        return {value.type for value in (*self.session.get_inputs(), *self.session.get_outputs())}

    def run(self, profile: int, inputs: Mapping[str, Any], /) -> dict[str, Any]:
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        feeds = {value.name: inputs[value.name].astype(kinds[value.type]) for value in self.session.get_inputs()}
        self.runs.append((profile, [value.shape for value in feeds.values()]))
        output = self.session.get_outputs()[0].name
        return {output: self.session.run([output], feeds)[0] * np.float32(self.gain)}


@pytest.fixture(scope="module")
def half(half_modelset: Path) -> ModelSet:
    return ModelSet.open(half_modelset)


@pytest.fixture(scope="module")
def full(modelset: Path) -> ModelSet:
    return ModelSet.open(modelset)


@pytest.mark.parametrize(("variant", "tightest"), [(AS_BUILT, 1e-4), (FP32_ATTENTION, 1e-4), (FP32, 1e-5)])
def test_every_variant_of_a_strongly_typed_plan_computes_the_model(
    half: ModelSet, tmp_path: Path, variant: str, tightest: float
) -> None:
    plans = {
        graph: OnnxPlan(write_source(StronglyTyped(), half, PlanSpec(graph, "fp16", variant), tmp_path))
        for graph in GRAPHS
    }
    for graph, plan in plans.items():
        assert plan.types == {"tensor(float16)"}
        profiles = engine_profiles(half.spec, graph, (1, 4))
        decoder = plans["vae_decoder"] if graph == "unet" else None
        rows = certify(half, graph, plan, profiles, "fp16", decoder)
        assert [row for row in rows if not row.passed] == []
        assert all(tightest < row.relative_error for row in rows)
        assert len(rows) == (4 if graph == "unet" else 2)


def test_the_last_fallback_and_tensorrt_8_get_graphs_that_are_fp32_throughout(half: ModelSet, tmp_path: Path) -> None:
    for variant in WeaklyTyped().fallbacks("fp16"):
        file = write_source(WeaklyTyped(), half, PlanSpec("unet", "fp16", variant), tmp_path)
        model = onnx.load(file)
        kinds = {tensor.data_type for tensor in model.graph.initializer}
        kinds |= {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        assert onnx.TensorProto.FLOAT16 not in kinds
        onnx.checker.check_model(model)
    file = write_source(StronglyTyped(), half, PlanSpec("unet", "fp32", AS_BUILT), tmp_path)
    assert OnnxPlan(file).types == {"tensor(float)"}


def test_attention_in_fp32_is_one_island_from_product_to_product(half: ModelSet, tmp_path: Path) -> None:
    file = write_source(StronglyTyped(), half, PlanSpec("unet", "fp16", FP32_ATTENTION), tmp_path)
    model = onnx.shape_inference.infer_shapes(onnx.load(file), strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}
    products = attention_products(model)
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    assert len(products) == 2 * len(softmax) > 0
    assert {kinds[name] for node in products for name in (*node.input, *node.output)} == {onnx.TensorProto.FLOAT}
    for node in softmax:
        assert makers[node.input[0]].op_type == "MatMul"
        assert readers[node.output[0]].op_type in {"MatMul", "Cast"}


def test_a_model_set_of_the_right_types_is_parsed_where_it_lies(half: ModelSet, full: ModelSet, tmp_path: Path) -> None:
    for variant in (AS_BUILT, UNFUSED_ATTENTION):
        file = write_source(StronglyTyped(), half, PlanSpec("unet", "fp16", variant), tmp_path)
        assert file == half.graph("unet")
    for family in (WeaklyTyped(), StronglyTyped()):
        file = write_source(family, full, PlanSpec("unet", "fp32", AS_BUILT), tmp_path)
        assert file == full.graph("unet")
    discard_source(file, tmp_path)
    assert file.is_file()
    assert list(tmp_path.iterdir()) == []
    file = write_source(StronglyTyped(), half, PlanSpec("unet", "fp16", FP32), tmp_path)
    assert sorted(made.name for made in tmp_path.iterdir()) == ["unet.source.onnx", "unet.source.onnx.data"]
    discard_source(file, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_fp32_model_set_gives_no_fp16_plan_where_graphs_say_the_types(full: ModelSet, half: ModelSet) -> None:
    with pytest.raises(InvalidArgument, match="export it with --fp16, or pass --precision fp32"):
        StronglyTyped().check_precision(full, "fp16")
    WeaklyTyped().check_precision(full, "fp16")
    StronglyTyped().check_precision(full, "fp32")
    StronglyTyped().check_precision(half, "fp16")


def test_without_tensorrt_a_family_is_assumed_that_takes_the_model_set(full: ModelSet, half: ModelSet) -> None:
    assert family_for(full, "fp16").versions == "8.6"
    for models, precision in ((full, "fp32"), (half, "fp16"), (half, "fp32")):
        assert family_for(models, precision).versions == "10 and later"


def test_plans_are_certified_at_every_profile_with_whole_batches_only(full: ModelSet) -> None:
    profiles = engine_profiles(full.spec, "unet", (1, 3))
    plan, decoder = OnnxPlan(full.graph("unet")), OnnxPlan(full.graph("vae_decoder"))
    rows = certify(full, "unet", plan, profiles, "fp32", decoder)
    outputs = [(row.profile, row.graph, row.output, row.passed) for row in rows]
    assert outputs == [
        (0, "unet", "prediction[1]", True),
        (0, "chain", "images[1]", True),
        (1, "unet", "prediction[3]", True),
        (1, "chain", "images[3]", True),
    ]
    assert [(profile, shapes[0][0]) for profile, shapes in plan.runs] == [(0, 1)] * 8 + [(1, 3)] * 3
    assert [(profile, shapes[0][0]) for profile, shapes in decoder.runs] == [(0, 1)] * 8 + [(1, 3)] * 3
    assert all(row.psnr_db > 60 for row in rows if row.psnr_db is not None)
    assert [row.psnr_db is None for row in rows] == [True, False, True, False]


def test_a_short_context_is_certified_against_the_graph_itself(full: ModelSet) -> None:
    profiles = engine_profiles(full.spec, "audio_encoder", (1, 4))
    assert profiles == [{"mel": (1, 80, 3000)}, {"mel": (1, 80, 200)}]
    plan = OnnxPlan(full.graph("audio_encoder"))
    rows = certify(full, "audio_encoder", plan, profiles, "fp32", None)
    assert [row.output for row in rows] == ["states[3000]", "states[200]"]
    assert all(row.passed for row in rows)


def test_a_face_within_its_bound_has_40_db(full: ModelSet) -> None:
    profiles = engine_profiles(full.spec, "vae_decoder", (4,))
    (row,) = certify(
        full, "vae_decoder", OnnxPlan(full.graph("vae_decoder"), 1 - BOUNDS["vae_decoder"]), profiles, "fp16", None
    )
    assert row.relative_error == pytest.approx(BOUNDS["vae_decoder"], rel=1e-3)
    assert row.psnr_db is not None
    assert row.psnr_db >= 40


def test_what_is_not_a_number_does_not_pass(full: ModelSet) -> None:
    profiles = engine_profiles(full.spec, "vae_decoder", (4,))
    (row,) = certify(full, "vae_decoder", OnnxPlan(full.graph("vae_decoder"), float("nan")), profiles, "fp16", None)
    assert not row.passed
    assert row.psnr_db is None


class Built:
    """What an attempt gives: one row that is off by `error`."""

    def __init__(self, error: float) -> None:
        self.certified = [CertifiedOutput("unet", "prediction[1]", error, error, 2e-2, 0)]


def test_the_search_stops_at_the_first_variant_that_passes() -> None:
    errors = {AS_BUILT: 0.7, UNFUSED_ATTENTION: float("nan"), FP32_ATTENTION: 8e-3, FP32: 1e-6}
    tried: list[str] = []
    said: list[str] = []

    def attempt(variant: str) -> Built:
        tried.append(variant)
        return Built(errors[variant])

    built = first_passing("unet", StronglyTyped().fallbacks("fp16"), attempt, said.append)
    assert tried == [AS_BUILT, UNFUSED_ATTENTION, FP32_ATTENTION]
    assert built.certified[0].relative_error == 8e-3
    assert said == [
        "unet: as built: off by unet prediction[1] 7.0e-01 > 2e-02",
        "unet: attention unfused: off by unet prediction[1] nan > 2e-02",
    ]


def test_the_search_refuses_what_no_variant_mends() -> None:
    tried: list[str] = []

    def attempt(variant: str) -> Built:
        tried.append(variant)
        return Built(0.5)

    with pytest.raises(AccuracyError, match="unet computes something else than the model set, in every variant"):
        first_passing("unet", WeaklyTyped().fallbacks("fp16"), attempt, print)
    assert tried == [AS_BUILT, UNFUSED_ATTENTION, FP32_ATTENTION, FP32]


def test_the_search_goes_on_from_a_plan_that_tensorrt_cannot_run() -> None:
    tried: list[str] = []
    said: list[str] = []

    def attempt(variant: str) -> Built:
        tried.append(variant)
        if variant == AS_BUILT:
            raise PlanError("TensorRT cannot prepare profile 0: Myelin")
        return Built(8e-3)

    first_passing("vae_encoder", WeaklyTyped().fallbacks("fp16"), attempt, said.append)
    assert tried == [AS_BUILT, UNFUSED_ATTENTION]
    assert said == ["vae_encoder: as built: TensorRT cannot prepare profile 0: Myelin"]


@pytest.mark.parametrize("error", [PlanError("no kernel"), MachineError("the GPU is out of memory")])
def test_the_search_raises_what_stopped_its_last_try(error: MachineError) -> None:
    tried: list[str] = []

    def attempt(variant: str) -> Built:
        tried.append(variant)
        raise error

    with pytest.raises(type(error), match=str(error)):
        first_passing("unet", WeaklyTyped().fallbacks("fp16"), attempt, print)
    assert len(tried) == (4 if isinstance(error, PlanError) else 1)  # memory is what no variant mends


def test_a_wrong_weight_fails_in_every_variant(half: ModelSet, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(half.path, broken)
    model = onnx.load(broken / "vae_decoder.onnx")
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    values = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array(values * values.dtype.type(1.5), weight.name))
    (broken / "vae_decoder.onnx.data").unlink()
    onnx.save_model(model, broken / "vae_decoder.onnx", save_as_external_data=True, location="vae_decoder.onnx.data")
    models = ModelSet(broken, half.manifest)
    profiles = engine_profiles(half.spec, "vae_decoder", (4,))

    class Attempt:
        def __init__(self, variant: str) -> None:
            file = write_source(StronglyTyped(), models, PlanSpec("vae_decoder", "fp16", variant), tmp_path)
            self.certified = certify(models, "vae_decoder", OnnxPlan(file), profiles, "fp16", None)

    with pytest.raises(AccuracyError, match=r"vae_decoder computes something else .* nothing was written"):
        first_passing("vae_decoder", StronglyTyped().fallbacks("fp16"), Attempt, print)
