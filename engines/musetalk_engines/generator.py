"""UNet and VAE decoder in one graph, from latents and tokens to RGB bytes."""

import onnx
from onnx import ModelProto, TensorProto, helper

from musetalk_engines.modelset import ModelSet


def merge_generator(modelset: ModelSet) -> ModelProto:
    """``latents``, ``tokens`` -> ``prediction`` (the UNet's), ``faces`` uint8 ``[N, I, I, 3]``.

    One graph and not two sessions used in turn: their thread pools would get in each other's way.
    """
    unet = onnx.load(modelset.graph("unet"))
    decoder = onnx.compose.add_prefix(onnx.load(modelset.graph("vae_decoder")), "decoder/")
    unet.ir_version = decoder.ir_version = max(unet.ir_version, decoder.ir_version)
    merged = onnx.compose.merge_models(
        unet, decoder, io_map=[("prediction", "decoder/latents")], outputs=["prediction", "decoder/images"]
    )
    _to_bytes(merged, "decoder/images", "faces")
    versions = {opset.domain: opset.version for opset in merged.opset_import}  # twice, one from each
    del merged.opset_import[:]
    merged.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())
    return merged


def _to_bytes(model: ModelProto, images: str, faces: str) -> None:
    """Replace the output `images` [N, 3, I, I] in [0, 1] by `faces`, uint8 and channels last, rounded."""
    graph = model.graph
    image = next(output for output in graph.output if output.name == images)
    batch, channels, height, width = image.type.tensor_type.shape.dim
    shape: list[str | int | None] = [batch.dim_param, height.dim_value, width.dim_value, channels.dim_value]
    graph.initializer.append(helper.make_tensor(f"{faces}/levels", TensorProto.FLOAT, [], [255.0]))
    graph.initializer.append(helper.make_tensor(f"{faces}/half", TensorProto.FLOAT, [], [0.5]))
    graph.node.extend(
        [
            helper.make_node("Mul", [images, f"{faces}/levels"], [f"{faces}/scaled"]),
            helper.make_node("Add", [f"{faces}/scaled", f"{faces}/half"], [f"{faces}/rounded"]),
            helper.make_node("Transpose", [f"{faces}/rounded"], [f"{faces}/last"], perm=[0, 2, 3, 1]),
            helper.make_node("Cast", [f"{faces}/last"], [faces], to=TensorProto.UINT8),
        ]
    )
    graph.output.remove(image)
    graph.output.append(helper.make_tensor_value_info(faces, TensorProto.UINT8, shape))
