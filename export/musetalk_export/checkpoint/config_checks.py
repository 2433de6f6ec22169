"""Checks of a checkpoint's configs: settings that the exported graphs do not support are refused."""

from pathlib import Path
from typing import Any

from musetalk_runtime.core.errors import InvalidCheckpoint

# What the graphs do not compute; with any other value of these settings they would be another model.
UNET_SETTINGS = {
    "addition_embed_type": (None,),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
    "class_embeddings_concat": (False,),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "mid_block_only_cross_attention": (None, False),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", None),
    "num_class_embeds": (None,),
    "only_cross_attention": (False,),
    "resnet_out_scale_factor": (1,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_type": ("positional",),
}
VAE_SETTINGS = {"latents_mean": (None,), "latents_std": (None,), "shift_factor": (None,), "in_channels": (3,)}
UNET_BLOCKS = {"CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"}
VAE_BLOCKS = {"DownEncoderBlock2D", "UpDecoderBlock2D"}

# Widths, blocks and factors of a small decoder are free: AutoencoderTiny's other choices are these.
DECODER_SETTINGS = {
    "act_fn": ("relu",),
    "out_channels": (3,),
    "shift_factor": (0, None),
    "upsample_fn": ("nearest",),
}


def check_settings(file: Path, config: Any, settings: dict[str, tuple[Any, ...]]) -> None:
    """Raise InvalidCheckpoint, naming `file`, unless each of `settings` is one of its values or absent in `config`."""
    for name, allowed in settings.items():
        value = config.get(name, allowed[0])
        if value not in allowed:
            expected = " or ".join(repr(choice) for choice in allowed)
            raise InvalidCheckpoint(f"{file}: {name} is {value!r}, which cannot be exported: expected {expected}")


def check_blocks(file: Path, known: set[str], blocks: tuple[str, ...]) -> None:
    """Raise InvalidCheckpoint, naming `file`, for a type of block that is not among `known`."""
    for name in blocks:
        if name not in known:
            raise InvalidCheckpoint(f"{file}: a block is {name!r}: expected {', '.join(sorted(known))}")
