"""The export of a checkpoint to a model set."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musetalk_export.check import check_graphs
from musetalk_export.checkpoint.checkpoint import Checkpoint, count, read_checkpoint
from musetalk_export.golden import Golden, make_golden
from musetalk_export.graphs.onnx_file import write_graph
from musetalk_export.graphs.unet import UNetGraph
from musetalk_export.graphs.vae import EncoderGraph, decoder_graph
from musetalk_export.graphs.whisper import AudioGraph
from musetalk_runtime.core.accuracy import Difference, table
from musetalk_runtime.core.model import GRAPHS, MODELSET_KIND, MODELSET_SCHEMA
from musetalk_runtime.storage.folder import check_destination, new_folder

log = logging.getLogger(__name__)


def export_model_set(
    checkpoint: Path,
    output: Path,
    *,
    unet_file: Path | None = None,
    decoder_folder: Path | None = None,
    half: bool = False,
) -> str:
    """Write the model set of `checkpoint` to the folder `output`, and return a table of its errors.

    `unet_file` takes the place of the checkpoint's UNet, `decoder_folder` (an AutoencoderTiny) of its decoder; `half`
    writes FP16 graphs with FP32 islands. Raises InputNotFound, InvalidArgument or InvalidCheckpoint for what was
    given, and AccuracyError if a graph in ONNX Runtime differs from PyTorch by more than ``check.MAX_RELATIVE_ERROR``;
    then nothing is written.
    """
    check_destination(output, MODELSET_KIND)
    log.info("reading %s", checkpoint)
    models = read_checkpoint(checkpoint, unet_file, decoder_folder)
    about = _about(models)  # before the graphs use the modules up
    with new_folder(output, MODELSET_KIND, MODELSET_SCHEMA) as (folder, manifest):
        manifest.update(_describe(models, half))
        log.info("computing the golden tensors with PyTorch")
        golden = make_golden(models)
        np.savez(folder / "golden.npz", allow_pickle=False, **golden)
        _write_graphs(models, golden, folder, half)
        log.info("checking the graphs with ONNX Runtime")
        rows = check_graphs(folder, golden, manifest["precision"])
        errors = {row.graph: {"max_error": row.max_error, "relative_error": row.relative_error} for row in rows}
        manifest["graphs"] = {graph: {**about[graph], **errors[graph]} for graph in GRAPHS}
    return _table(rows, about)


def _write_graphs(models: Checkpoint, golden: Golden, folder: Path, half: bool) -> None:
    """Write the four graphs; the modules of `models` are used up."""
    wrap: dict[str, Callable[[], nn.Module]] = {
        "unet": lambda: UNetGraph(models.unet, models.spec.tokens),
        "vae_decoder": lambda: decoder_graph(models.decoder, models.spec.image_size),
        "vae_encoder": lambda: EncoderGraph(models.vae),
        "audio_encoder": lambda: AudioGraph(models.audio),
    }
    for graph in GRAPHS:
        log.info("writing %s.onnx", graph)
        inputs, outputs = _examples(graph, golden)
        write_graph(wrap[graph](), inputs, outputs, folder / f"{graph}.onnx", half=half)


def _examples(graph: str, golden: Golden) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and outputs with a batch of one: the golden tensors list a graph's inputs first, then its one output."""
    tensors = {
        name.partition(".")[2]: torch.from_numpy(array[:1])
        for name, array in golden.items()
        if name.startswith(f"{graph}.")
    }
    output = list(tensors)[-1]
    return {name: tensor for name, tensor in tensors.items() if name != output}, {output: tensors[output]}


def _about(models: Checkpoint) -> dict[str, dict[str, Any]]:
    """By graph: the class of the model it is made from, and how many of its parameters it holds."""
    vae, decoder = models.vae, models.decoder
    parts: dict[str, tuple[Any, ...]] = {
        "unet": (models.unet, models.unet),
        "vae_decoder": (decoder, decoder.decoder, getattr(decoder, "post_quant_conv", None)),
        "vae_encoder": (vae, vae.encoder, vae.quant_conv),
        "audio_encoder": (models.audio, models.audio),
    }
    return {
        graph: {"class": type(model).__name__, "parameters": count(*held)} for graph, (model, *held) in parts.items()
    }


def _describe(models: Checkpoint, half: bool) -> dict[str, Any]:
    unet = models.unet.config
    return {
        "model": models.spec.to_json(),
        "precision": "fp16" if half else "fp32",
        "unet_config": {name: unet[name] for name in ("block_out_channels", "layers_per_block")},
    }


def _table(rows: list[Difference], about: dict[str, dict[str, Any]]) -> str:
    notes = {graph: f"{model['class']:>22}{model['parameters'] / 1e6:>10.2f} M" for graph, model in about.items()}
    return table(rows, f"{'class':>22}{'parameters':>12}", {"chain": " " * 34, **notes})
