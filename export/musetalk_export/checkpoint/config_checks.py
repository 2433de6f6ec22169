"""Checks of a checkpoint's configs: settings that the exported graphs do not support are refused."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musetalk_export.checkpoint.names import printable
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

# The largest sizes that are built: of any such model there is some are several times smaller.
MAX_ENTRIES = 16  # of a list: one for each block
MAX_BLOCK_LAYERS = 16
MAX_CHANNELS = 8192
UNET_SIZES = {
    "layers_per_block": MAX_BLOCK_LAYERS,
    "transformer_layers_per_block": MAX_BLOCK_LAYERS,
    "reverse_transformer_layers_per_block": MAX_BLOCK_LAYERS,
    "down_block_types": MAX_ENTRIES,  # names, of which the entries alone count
    "up_block_types": MAX_ENTRIES,
    "block_out_channels": MAX_CHANNELS,
    "attention_head_dim": MAX_CHANNELS,
    "num_attention_heads": MAX_CHANNELS,
    "cross_attention_dim": MAX_CHANNELS,
    "norm_num_groups": MAX_CHANNELS,
    "in_channels": MAX_CHANNELS,
    "out_channels": MAX_CHANNELS,
}
VAE_SIZES = {
    "layers_per_block": MAX_BLOCK_LAYERS,
    "down_block_types": MAX_ENTRIES,  # names, of which the entries alone count
    "up_block_types": MAX_ENTRIES,
    "block_out_channels": MAX_CHANNELS,
    "norm_num_groups": MAX_CHANNELS,
    "latent_channels": MAX_CHANNELS,
    "out_channels": MAX_CHANNELS,
}
WHISPER_SIZES = {
    "encoder_layers": 64,
    "d_model": MAX_CHANNELS,
    "encoder_ffn_dim": 4 * MAX_CHANNELS,
    "encoder_attention_heads": MAX_CHANNELS,
    "num_mel_bins": 1024,
    "max_source_positions": 3000,  # attention is quadratic in these
}
DECODER_SIZES = {
    "encoder_block_out_channels": MAX_CHANNELS,
    "decoder_block_out_channels": MAX_CHANNELS,
    "num_encoder_blocks": MAX_BLOCK_LAYERS,
    "num_decoder_blocks": MAX_BLOCK_LAYERS,
    "latent_channels": MAX_CHANNELS,
    "in_channels": MAX_CHANNELS,
    "out_channels": MAX_CHANNELS,
    "upsampling_scaling_factor": 16,
}


def check_sizes(file: Path, config: Mapping[str, Any], largest: Mapping[str, int]) -> None:
    """Raise InvalidCheckpoint, naming `file`, for a size in `config` beyond `largest`, before anything is built of it.

    A size may be a number or a list, of at most 16 entries, of such; what is neither is for the model to refuse.
    """
    for name, most in largest.items():
        for value in _numbers(file, name, config.get(name)):
            if value > most:
                raise InvalidCheckpoint(f"{file}: {name} is {value}, expected at most {most}")


def _numbers(file: Path, name: str, value: Any) -> Iterator[float]:
    if isinstance(value, (list, tuple)):
        if len(value) > MAX_ENTRIES:
            raise InvalidCheckpoint(f"{file}: {name} has {len(value)} entries, expected at most {MAX_ENTRIES}")
        for entry in value:
            yield from _numbers(file, name, entry)
    elif isinstance(value, (int, float)):
        yield value


def check_settings(file: Path, config: Any, settings: dict[str, tuple[Any, ...]]) -> None:
    """Raise InvalidCheckpoint, naming `file`, unless each of `settings` is one of its values or absent in `config`."""
    for name, allowed in settings.items():
        value = config.get(name, allowed[0])
        if value not in allowed:
            expected = " or ".join(repr(choice) for choice in allowed)
            raise InvalidCheckpoint(
                f"{file}: {name} is {printable(repr(value))}, which cannot be exported: expected {expected}"
            )


def check_blocks(file: Path, known: set[str], blocks: tuple[str, ...]) -> None:
    """Raise InvalidCheckpoint, naming `file`, for a type of block that is not among `known`."""
    for name in blocks:
        if name not in known:
            raise InvalidCheckpoint(f"{file}: a block is {printable(repr(name))}: expected {', '.join(sorted(known))}")
